use super::*;

fn lines(registry: &Registry, beginning: &str) -> Vec<String> {
    let text = registry.render(Format::Prometheus);
    text.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
}

#[test]
fn cells_of_workers_are_summed() {
    let registry = Registry::new();
    let requests = registry.counter("requests_total", "Requests.");
    let labels = Labels::new([("code", "200")]);
    let workers: Vec<_> = (1..=3)
        .map(|amount| {
            let (registry, labels) = (registry.clone(), labels.clone());
            std::thread::spawn(move || {
                let counter = registry.worker().counter(requests, &labels);
                (0..1_000).for_each(|_| counter.add(amount));
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("worker ends");
    }
    registry.shared_counter(requests, &labels).increment();
    assert_eq!(lines(&registry, "requests_total"), ["requests_total{code=\"200\"} 6001"]);
}

#[test]
fn the_same_labels_give_the_same_cell() {
    let registry = Registry::new();
    let family = registry.counter("a_total", "A.");
    let mut worker = registry.worker();
    let labels = Labels::new([("x", "1")]);
    worker.counter(family, &labels).increment();
    let again = worker.counter(registry.counter("a_total", "A."), &labels);
    again.increment();
    assert_eq!(again.value(), 2);
}

#[test]
fn a_histogram_is_cumulative_and_sums() {
    let registry = Registry::new();
    let family = registry.histogram("took_milliseconds", "Time.", &[0.5, 1.0, 10.0]);
    let mut worker = registry.worker();
    let histogram = worker.histogram(family, &Labels::none());
    [0.5, 0.7, 5.0, 100.0].into_iter().for_each(|value| histogram.observe(value));
    registry.shared_histogram(family, &Labels::none()).observe(1.0);
    assert_eq!(
        lines(&registry, "took"),
        [
            "took_milliseconds_bucket{le=\"0.5\"} 1",
            "took_milliseconds_bucket{le=\"1\"} 3",
            "took_milliseconds_bucket{le=\"10\"} 4",
            "took_milliseconds_bucket{le=\"+Inf\"} 5",
            "took_milliseconds_sum 107.2",
            "took_milliseconds_count 5",
        ]
    );
}

#[test]
fn gauges_go_down_across_workers() {
    let registry = Registry::new();
    let family = registry.gauge("open", "Open connections.");
    let (mut left, mut right) = (registry.worker(), registry.worker());
    let guard = left.gauge(family, &Labels::none()).hold();
    right.gauge(family, &Labels::none()).increment();
    assert_eq!(lines(&registry, "open"), ["open 2"]);
    drop(guard);
    right.gauge(family, &Labels::none()).decrement();
    right.gauge(family, &Labels::none()).decrement();
    assert_eq!(lines(&registry, "open"), ["open -1"]);
    registry.ask(family, Labels::new([("of", "asked")]), || 2.5);
    assert_eq!(lines(&registry, "open{"), ["open{of=\"asked\"} 2.5"]);
}

#[test]
fn too_many_label_sets_go_to_overflow_and_totals_stay() {
    let registry = Registry::with_label_sets(2);
    let family = registry.counter("a_total", "A.");
    let mut worker = registry.worker();
    for value in ["1", "2", "3", "4", "3"] {
        worker.counter(family, &Labels::new([("x", value)])).increment();
    }
    assert_eq!(
        lines(&registry, "a_total"),
        ["a_total{overflow=\"true\"} 3", "a_total{x=\"1\"} 1", "a_total{x=\"2\"} 1"]
    );
    assert_eq!(lines(&registry, "lateen_metrics_overflow"), ["lateen_metrics_overflow_total 3"]);
}

#[test]
fn both_formats_name_a_counter_their_way() {
    let registry = Registry::new();
    let family = registry.counter("a_total", "Says \"a\"\nand \\.");
    registry.shared_counter(family, &Labels::none()).add(7);
    let prometheus = registry.render(Format::accepted("text/plain"));
    let begins = "# HELP a_total Says \"a\"\\nand \\\\.\n# TYPE a_total counter\na_total 7\n";
    assert!(prometheus.starts_with(begins), "{prometheus}");
    let open = registry.render(Format::accepted("application/openmetrics-text; version=1.0.0"));
    assert!(open.starts_with("# HELP a Says \\\"a\\\"\\nand \\\\.\n# TYPE a counter\na_total 7\n"), "{open}");
    assert!(open.ends_with("\n# EOF\n"));
}
