//! The tables of a run, and its ratios beside what they should be.

use super::Measurement;
use crate::contender::Contender;
use crate::figures::Figure;
use crate::shape::Shape;
use crate::sheet::Sheet;

/// A ratio, and the most that it may be.
const TARGETS: [(Shape, Contender, Contender, f64); 9] = [
    (Shape::Http1, Contender::Full, Contender::Floor, 1.35),
    (Shape::Http1, Contender::Full, Contender::EnvoyFull, 0.22),
    (Shape::Http1, Contender::Full, Contender::Nginx, 1.0),
    (Shape::Http1, Contender::Full, Contender::Haproxy, 1.0),
    (Shape::Http1, Contender::Pair, Contender::EnvoyPair, 0.20),
    (Shape::Http1At1000, Contender::Pair, Contender::EnvoyPair, 0.40),
    (Shape::H2c, Contender::Full, Contender::EnvoyFull, 0.40),
    (Shape::Grpc, Contender::Full, Contender::EnvoyFull, 0.40),
    (Shape::Body10m, Contender::Full, Contender::Floor, 1.15),
];

pub(super) fn sheets(measurements: &[Measurement]) -> Vec<Sheet> {
    let shapes = Shape::ALL.into_iter().filter_map(|shape| of_shape(measurements, shape));
    shapes.chain([ratios(measurements)]).filter(|sheet| !sheet.rows.is_empty()).collect()
}

fn figure(
    measurements: &[Measurement],
    shape: Shape,
    contender: Contender,
    of: fn(&Measurement) -> f64,
) -> Option<Figure> {
    let mine = |m: &&Measurement| m.shape == shape && m.contender == contender && m.counts();
    Figure::of(measurements.iter().filter(mine).map(of))
}

fn of_shape(measurements: &[Measurement], shape: Shape) -> Option<Sheet> {
    let is_streaming = shape == Shape::Body10m;
    let cpu = if is_streaming { "CPU ms/GiB" } else { "CPU µs/request" };
    let is_paced = shape.rate().is_some();
    let (p50, p99) = if is_paced { ("added p50 µs", "added p99 µs") } else { ("p50 µs", "p99 µs") };
    let mut sheet = Sheet::new(shape.title(), ["", cpu, p50, p99, "requests/s", "core busy %", "RSS MiB"]);
    // What is added is counted from the median of no proxy at all.
    let base = |of| match figure(measurements, shape, Contender::Direct, of) {
        Some(direct) if is_paced => direct.median,
        _ => 0.0,
    };
    let (base50, base99) = (base(|m| m.p50_micros), base(|m| m.p99_micros));
    for contender in shape.contenders() {
        let figure = |of| figure(measurements, shape, *contender, of);
        let Some(cpu) = figure(|m| m.cpu_micros_per_request) else { continue };
        let factor = if is_streaming { f64::from(1 << 30) / shape.body() as f64 / 1e3 } else { 1.0 };
        let less = |found: Option<Figure>, base: f64| {
            found.map(|found| Figure {
                median: found.median - base,
                min: found.min - base,
                max: found.max - base,
            })
        };
        let is_direct = *contender == Contender::Direct;
        let text = |found: Option<Figure>| found.map_or_else(String::new, |found| found.to_string());
        let or_none = |found: String| if is_direct { "-".to_owned() } else { found };
        sheet.row([
            contender.title().to_owned(),
            or_none(cpu.times(factor).to_string()),
            text(less(figure(|m| m.p50_micros), if is_direct { 0.0 } else { base50 })),
            text(less(figure(|m| m.p99_micros), if is_direct { 0.0 } else { base99 })),
            text(figure(|m| m.per_second)),
            or_none(text(figure(|m| m.busy))),
            or_none(text(figure(|m| m.memory_mib))),
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

fn ratios(measurements: &[Measurement]) -> Sheet {
    let mut sheet = Sheet::new("CPU per request as ratios of medians", ["", "ratio", "target", "met"]);
    for (shape, ours, other, most) in TARGETS {
        let cpu = |contender| figure(measurements, shape, contender, |m| m.cpu_micros_per_request);
        let (Some(mine), Some(theirs)) = (cpu(ours), cpu(other)) else { continue };
        let ratio = mine.median / theirs.median;
        sheet.row([
            format!("{}: {} ÷ {}", shape.title(), ours.title(), other.title()),
            format!("{ratio:.2}"),
            format!("≤ {most:.2}"),
            if ratio <= most { "yes" } else { "no" }.to_owned(),
        ]);
    }
    for shape in [Shape::Http1At1000, Shape::Http1At5000] {
        let p99 = |contender| figure(measurements, shape, contender, |m| m.p99_micros);
        for other in [Contender::EnvoyFull, Contender::Nginx, Contender::Haproxy] {
            let (Some(mine), Some(theirs)) = (p99(Contender::Full), p99(other)) else { continue };
            sheet.row([
                format!("{}: p99, Lateen ÷ {}", shape.title(), other.title()),
                format!("{:.2}", mine.median / theirs.median),
                "≤ 1.00".to_owned(),
                if mine.median <= theirs.median { "yes" } else { "no" }.to_owned(),
            ]);
        }
    }
    sheet
}
