//! How processes begin and end, and that nothing is left.

use std::{
    collections::BTreeSet,
    fs,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

use lateen_runtime::sock::watch;
use lateen_sandbox::{Descriptors, Environment, Exit, Kind, PodSpec, Sandbox, output};
use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    Case, block_on, helper,
    shop::{Shop, helper_spec, run, start},
};

pub(crate) const CASES: &[(&str, Case)] = &[
    ("a_failing_start_names_its_call", a_failing_start_names_its_call),
    ("descriptors_get_their_numbers", descriptors_get_their_numbers),
    ("a_pod_has_its_own_names", a_pod_has_its_own_names),
    ("a_process_takes_its_group_along", a_process_takes_its_group_along),
    ("a_removed_pod_leaves_nothing", a_removed_pod_leaves_nothing),
    ("a_killed_holder_leaves_nothing", a_killed_holder_leaves_nothing),
    ("a_killed_supervisor_leaves_nothing", a_killed_supervisor_leaves_nothing),
    ("dropped_handles_leave_nothing", dropped_handles_leave_nothing),
];

/// Cases that need no namespaces.
pub(crate) fn plain_trials() -> Vec<Trial> {
    let trial = |name, case: fn()| {
        Trial::test(name, move || {
            case();
            Ok(())
        })
    };
    vec![
        trial("plain_processes_start_without_privileges", plain_processes_start_without_privileges),
        trial("a_plain_end_takes_orphans_along", a_plain_end_takes_orphans_along),
        trial("a_killed_plain_supervisor_leaves_nothing", || {
            a_killed_supervisor_leaves_nothing(Environment::Plain);
        }),
    ]
}

/// Waits for the end of a process that may be anybody's child.
struct Watched(OwnedFd);

impl Watched {
    fn new(pid: i32) -> Watched {
        let pid = rustix::process::Pid::from_raw(pid).expect("not zero");
        Watched(pidfd_open(pid, PidfdFlags::empty()).expect("it lives"))
    }

    async fn gone(self) {
        let watched = watch(self.0).expect("watched");
        let ended = tokio::time::timeout(Duration::from_secs(10), watched.readable()).await;
        ended.expect("it ends").expect("readable").retain_ready();
    }
}

/// Processes of the machine that descend from `ancestor`.
fn descendants(ancestor: i32) -> Vec<i32> {
    let children =
        fs::read_to_string(format!("/proc/{ancestor}/task/{ancestor}/children")).unwrap_or_default();
    let children: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().expect("a number")).collect();
    children.iter().flat_map(|child| std::iter::once(*child).chain(descendants(*child))).collect()
}

fn machine_links() -> BTreeSet<String> {
    let links = fs::read_dir("/sys/class/net").expect("/sys");
    links.flatten().map(|link| link.file_name().to_string_lossy().into_owned()).collect()
}

fn a_failing_start_names_its_call(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, None).await;
        let mut spec = helper_spec(Kind::Application, &["sleep"]);
        spec.argv[0] = "/nonexistent".into();
        let error = pod.spawn(spec.clone(), Descriptors::new()).await.err().expect("no such program");
        assert_eq!(error.to_string(), "execve(/nonexistent): ENOENT: No such file or directory");
        spec.argv[0] = "no-such-program".into();
        let error = pod.spawn(spec.clone(), Descriptors::new()).await.err().expect("no such program");
        assert!(error.to_string().starts_with("find no-such-program in PATH"), "{error}");
        spec.cwd = Some("/nowhere".into());
        let error = pod.spawn(spec, Descriptors::new()).await.err().expect("no such directory");
        assert_eq!(error.to_string(), "chdir(/nowhere): ENOENT: No such file or directory");
        shop.close().await;
    });
}

fn descriptors_get_their_numbers(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, None).await;
        // Numbers that cross, and that the holder itself uses.
        for numbers in [[3, 4], [4, 3], [9, 7]] {
            for (which, expected) in ["first", "second"].into_iter().enumerate() {
                let (out, writer) = output::pipe().expect("a pipe");
                let mut descriptors = Descriptors::new().with(1, writer);
                for (number, text) in numbers.into_iter().zip(["first\n", "second\n"]) {
                    let (reader, mut writer) = std::io::pipe().expect("a pipe");
                    std::io::Write::write_all(&mut writer, text.as_bytes()).expect("written");
                    descriptors = descriptors.with(number, reader);
                }
                let arguments = ["read", &numbers[which].to_string()];
                let spec = helper_spec(Kind::Application, &arguments);
                let process = pod.spawn(spec, descriptors).await.expect("a process");
                let mut line = String::new();
                BufReader::new(out).read_line(&mut line).await.expect("its output");
                assert_eq!((line.trim(), process.wait().await), (expected, Exit::Code(0)));
            }
        }
        shop.close().await;
    });
}

fn a_pod_has_its_own_names(environment: Environment) {
    block_on(async {
        let before = fs::read_to_string("/etc/hosts").ok();
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, None).await;
        assert_eq!(run(&pod, Kind::Application, &["hostname"]).await, "host-11");
        let resolver = run(&pod, Kind::Application, &["print", "/etc/resolv.conf"]).await;
        assert!(
            resolver.starts_with("nameserver 198.18.0.1\nsearch default.svc.cluster.local"),
            "{resolver}"
        );
        let nsswitch = run(&pod, Kind::Application, &["print", "/etc/nsswitch.conf"]).await;
        assert!(
            !std::path::Path::new("/etc/nsswitch.conf").exists() || nsswitch.contains("hosts: files dns")
        );
        assert_eq!(fs::read_to_string("/etc/hosts").ok(), before);
        shop.close().await;
    });
}

fn a_process_takes_its_group_along(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, None).await;
        let mut sleeper = start(&pod, Kind::Application, &["sleep"]).await;
        assert_eq!(sleeper.line().await, "sleeping\n");
        let watched = Watched::new(sleeper.process.pid());
        let exit = sleeper.process.stop(Duration::from_secs(10)).await.expect("stopped");
        assert_eq!(exit, Exit::Signal(libc::SIGTERM));
        watched.gone().await;
        sleeper.process.signal(libc::SIGTERM, true).await.expect("one that has ended is no error");
        shop.close().await;
    });
}

fn a_removed_pod_leaves_nothing(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, None).await;
        let mut orphan = start(&pod, Kind::Application, &["orphan"]).await;
        assert_eq!(orphan.line().await, "sleeping\n");
        let child = descendants(orphan.process.pid()).pop().expect("a child in a group of its own");
        let watched = Watched::new(child);
        pod.remove().await.expect("removed");
        assert_eq!(orphan.process.wait().await, Exit::Signal(libc::SIGKILL));
        watched.gone().await;
        // Its name and addresses are free again.
        shop.pod(11, None).await;
        shop.close().await;
    });
}

fn a_killed_holder_leaves_nothing(environment: Environment) {
    block_on(async {
        let links = machine_links();
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, None).await;
        let mut orphan = start(&pod, Kind::Application, &["orphan"]).await;
        orphan.line().await;
        let holder = i32::try_from(shop.sandbox.holder_pid()).expect("a number");
        let watched: Vec<Watched> = descendants(holder).into_iter().map(Watched::new).collect();
        assert_eq!(watched.len(), 3, "the init, the process and its child");
        kill(Pid::from_raw(holder), Signal::SIGKILL).expect("killed");
        for process in watched {
            process.gone().await;
        }
        assert_eq!(orphan.process.wait().await, Exit::Signal(libc::SIGKILL));
        shop.sandbox.ended().await.expect("noticed");
        let error = shop.sandbox.make_pod(PodSpec::default()).await.err().expect("no holder");
        assert!(error.to_string().starts_with("the sandbox's holder has ended"), "{error}");
        assert_eq!(machine_links(), links);
    });
}

/// The helper of the next case: a supervisor that waits to be killed.
pub(crate) fn supervise(environment: &str) {
    block_on(async {
        let environment = Environment::parse(environment).expect("an environment");
        let (sandbox, _news) = Sandbox::start(environment, vec![]).await.expect("a sandbox");
        let pod = sandbox.make_pod(PodSpec { name: "a".into(), ..PodSpec::default() }).await.expect("a pod");
        let mut sleeper = start(&pod, Kind::Application, &["sleep"]).await;
        sleeper.line().await;
        println!("{} {}", sandbox.holder_pid(), sleeper.process.pid());
        std::future::pending::<()>().await;
    });
}

fn a_killed_supervisor_leaves_nothing(environment: Environment) {
    block_on(async {
        let links = machine_links();
        let (out, writer) = output::pipe().expect("a pipe");
        let mut supervisor = Command::new("/proc/self/exe")
            .args([helper::ARGUMENT, "supervise", environment.name()])
            .stdout(Stdio::from(writer))
            .spawn()
            .expect("a supervisor");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).await.expect("its output");
        let watched: Vec<Watched> =
            line.split_whitespace().map(|pid| Watched::new(pid.parse().expect("a number"))).collect();
        assert_eq!(watched.len(), 2, "{line}");
        supervisor.kill().expect("killed");
        supervisor.wait().expect("reaped");
        for process in watched {
            process.gone().await;
        }
        assert_eq!(machine_links(), links);
    });
}

fn dropped_handles_leave_nothing(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, None).await;
        let mut sleeper = start(&pod, Kind::Application, &["sleep"]).await;
        sleeper.line().await;
        let watched = Watched::new(sleeper.process.pid());
        drop((shop, pod, sleeper));
        watched.gone().await;
    });
}

/// Runs this whole suite again as the user `nobody`, from a copy in a place that he can read.
pub(crate) fn as_an_ordinary_user(_: Environment) {
    const NOBODY: u32 = 65534;
    let directory = tempfile::Builder::new().prefix("lateen-nobody").tempdir().expect("a directory");
    let copy = directory.path().join("suite");
    fs::copy("/proc/self/exe", &copy).expect("a copy");
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("readable");
    let output = Command::new(copy)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .env("LATEEN_REQUIRE_NAMESPACES", "1")
        .output()
        .expect("the suite runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("[user-namespace]"), "{text}");
}

fn plain_processes_start_without_privileges() {
    block_on(async {
        let (sandbox, _news) = Sandbox::start(Environment::Plain, vec![]).await.expect("a sandbox");
        let pod = sandbox.make_pod(PodSpec { name: "a".into(), ..PodSpec::default() }).await.expect("a pod");
        let found = run(&pod, Kind::Application, &["privileges"]).await;
        assert!(found.contains("CapEff: 0000000000000000\n") && found.contains("NoNewPrivs: 1\n"), "{found}");
        sandbox.shut_down().await.expect("an end");
    });
}

fn a_plain_end_takes_orphans_along() {
    block_on(async {
        let (sandbox, _news) = Sandbox::start(Environment::Plain, vec![]).await.expect("a sandbox");
        let pod = sandbox.make_pod(PodSpec { name: "a".into(), ..PodSpec::default() }).await.expect("a pod");
        let mut orphan = start(&pod, Kind::Application, &["orphan"]).await;
        orphan.line().await;
        let child = descendants(orphan.process.pid()).pop().expect("a child in a group of its own");
        let watched = Watched::new(child);
        sandbox.shut_down().await.expect("an end");
        watched.gone().await;
    });
}
