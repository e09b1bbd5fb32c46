//! Text that means harm ends in a problem, in bounded time and memory.

use lateen_world::{Change, MAX_FILE, Settings, World};

fn problems(text: String) -> usize {
    let mut world = World::new(Settings::default());
    world.apply(vec![Change::SetFile { path: "x.yaml".into(), text }]);
    assert!(world.entries().len() <= 1, "nothing but the settings of the mesh");
    world.problems().len()
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("!!seq [", "]"), ("&a [", "]")]
    {
        let text = format!("{}{}", open.repeat(100_000), close.repeat(100_000));
        assert_eq!(problems(text), 1, "{open}");
    }
    let block: String = (0..2000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert_eq!(problems(block), 1);
}

#[test]
fn aliases_do_not_multiply() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let before = level - 1;
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 10].join(", ")));
    }
    assert_eq!(problems(bomb), 1);
    let wide = format!("a: &a [{}]\nb: [{}]\n", "x, ".repeat(10_000), "*a, ".repeat(10_000));
    assert_eq!(problems(wide), 1);
    let merges = format!("a: &a {{b: 1}}\nc: {{<<: [{}]}}\n", "*a, ".repeat(200_000));
    assert!(problems(merges) >= 1);
    assert_eq!(problems("a: &a [*a]\n".into()), 1);
}

#[test]
fn size_is_bounded() {
    assert_eq!(problems("a".repeat(MAX_FILE + 1)), 1);
    assert_eq!(problems("[".to_owned() + &"a,".repeat(4 << 20)), 1);
    let documents = problems("---\na: 1\n".repeat(40_000));
    assert!((1..=1001).contains(&documents), "{documents}");
    let items = format!("kind: List\nitems:\n{}", "- x\n".repeat(300_000));
    assert!((1..=1001).contains(&problems(items)));
}

#[test]
fn odd_bytes_are_refused_calmly() {
    for text in [
        "\0",
        "\u{feff}\u{feff}a",
        "%YAML 9.9\n---\na",
        "\t\t:\t",
        "a: *nobody",
        "!!int x",
        "\u{2028}: \u{85}",
        "? {a: b}\n: c",
        "--- |\n x\n--- >-\n y",
    ] {
        problems(text.to_owned());
    }
}

/// What people run into who know YAML a little.
#[test]
fn the_traps_of_yaml_say_what_was_meant() {
    for (text, expected) in [
        (
            "hosts: [*.example.com, a]",
            "expected quotes around a text that begins with `*`: \"*.example.com\"",
        ),
        ("hosts:\n  - *", "expected quotes around a text that begins with `*`: \"*\""),
        ("metadata:\n\tname: x", "expected spaces, no tabs"),
    ] {
        let mut world = World::new(Settings::default());
        world.apply(vec![Change::SetFile { path: "x.yaml".into(), text: text.to_owned() }]);
        let problems: Vec<String> = world.problems().iter().map(ToString::to_string).collect();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
    }
}

/// Every value of every golden, in turn, is something else than was meant.
#[test]
fn any_value_may_be_wrong() {
    const WRONG: [&str; 10] = [
        "-1",
        "99999999999999999999",
        "9223372036854775807",
        ".nan",
        "-.inf",
        "\"\"",
        "{}",
        "[[]]",
        "\"%REQ(\\r\\n)\\0%\"",
        "1e308",
    ];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut turn = 0;
    for case in std::fs::read_dir(root).expect("the goldens") {
        let text = std::fs::read_to_string(case.expect("an entry").path().join("in.yaml")).expect("in.yaml");
        for document in text.split("\n---\n") {
            for (colon, _) in document.match_indices(": ") {
                let (before, value) = document.split_at(colon + 2);
                let end = value.find([',', '}', ']', '\n', '{', '[']).unwrap_or(value.len());
                turn += 1;
                let changed = format!("{before}{}{}", WRONG[turn % WRONG.len()], &value[end..]);
                let mut world = World::new(Settings::default());
                world.apply(vec![Change::SetFile { path: "x.yaml".into(), text: changed }]);
            }
        }
    }
    assert!(turn > 1000, "{turn} values");
}
