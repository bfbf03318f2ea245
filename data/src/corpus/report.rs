//! `report.html` and `report.json`: what became of a job's documents. One page that needs nothing
//! else, and the same bytes for any layout: there is no time and no speed in it.

use std::collections::BTreeMap;

use minijinja::Environment;
use minijinja::value::{Serde, Value};
use plotters::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::job::Job;
use super::sink::RuleCounts;
use super::stats::{BINS_PER_DOUBLING, Lengths, Stats};

/// The page's name in a job's folder.
pub(super) const PAGE: &str = "report.html";

/// Picture size in pixels.
const SIZE: (u32, u32) = (860, 300);

const KEPT: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const DROPPED: RGBColor = RGBColor(0xd9, 0x5f, 0x02);
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xe8, 0xe8, 0xe8);

/// One step of the funnel: a rule that dropped or cut something, or might have.
#[derive(Debug, Serialize)]
struct Step<'a> {
    rule: &'a str,
    #[serde(flatten)]
    counts: RuleCounts,
    /// Documents that the rule was asked about.
    asked: u64,
    /// Documents left behind it, as a share of all.
    share: f64,
}

/// The report's files by name.
pub(super) fn files(job: &Job, stats: &Stats) -> BTreeMap<&'static str, Vec<u8>> {
    let json = serde_json::to_vec_pretty(stats).expect("plain fields always serialise");
    BTreeMap::from([("report.json", json), (PAGE, page(job, stats).into_bytes())])
}

fn page(job: &Job, stats: &Stats) -> String {
    let mut environment = Environment::new();
    environment.add_filter("count", |count: u64| with_commas(count));
    environment.add_filter("bytes", |bytes: u64| with_unit(bytes));
    environment.add_filter("percent", |share: f64| format!("{:.1} %", 100.0 * share));
    environment.add_template(PAGE, include_str!("report.html")).expect("the template is fixed");
    let template = environment.get_template(PAGE).expect("just added");
    let shards = job.shards();
    let input_bytes: u64 = shards.iter().map(|shard| shard.bytes()).sum();
    let content = json!({
        "stage": job.stage(),
        "parameters": flat(job.parameters()),
        "shards": shards.len(),
        "input_bytes": input_bytes,
        "counts": stats.counts,
        "dropped": stats.counts.read.documents - stats.counts.kept.documents,
        "funnel": funnel(stats),
        "plot": plot(&stats.kept_lengths, &stats.dropped_lengths),
        "samples": stats.samples,
    });
    let page = template.render(Value::from(Serde(&content)));
    page.expect("the template is fixed")
}

/// Rules in the order in which they are asked: each sees what the ones before it have left.
fn funnel(stats: &Stats) -> Vec<Step<'_>> {
    let all = stats.counts.read.documents;
    let mut steps: Vec<Step> = stats
        .counts
        .rules
        .iter()
        .map(|(rule, &counts)| {
            let asked = counts.kept + counts.dropped.documents;
            Step { rule, counts, asked, share: counts.kept as f64 / all.max(1) as f64 }
        })
        .collect();
    steps.sort_by(|a, b| b.asked.cmp(&a.asked).then(a.rule.cmp(b.rule)));
    steps
}

/// Nested parameters as `name.of.it = value`.
fn flat(value: &serde_json::Value) -> Vec<(String, String)> {
    fn walk(name: &str, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    walk(&inner, value, out);
                }
            }
            value => out.push((name.to_string(), value.to_string())),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    out
}

/// Both distributions over one axis, as SVG.
fn plot(kept: &Lengths, dropped: &Lengths) -> String {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&root, kept, dropped).expect("drawing into memory cannot fail");
    }
    svg
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(root: &Area, kept: &Lengths, dropped: &Lengths) -> Result<(), Box<dyn std::error::Error>> {
    let bins = kept.0.len().max(dropped.0.len()).max(1);
    let used = |lengths: &Lengths| lengths.0.iter().position(|&count| count > 0).unwrap_or(bins);
    let first = used(kept).min(used(dropped)).min(bins - 1);
    let at = |lengths: &Lengths, bin: usize| lengths.0.get(bin).copied().unwrap_or(0);
    let most = (0..bins).map(|bin| at(kept, bin) + at(dropped, bin)).max().unwrap_or(0).max(1);
    let mut chart = ChartBuilder::on(root)
        .margin(8)
        .margin_right(28)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(first as f64..bins as f64, 0.0..most as f64 * 1.05)?;
    let length = |bin: &f64| with_unit((bin / BINS_PER_DOUBLING as f64).exp2().round() as u64);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("length of the text")
        .y_desc("documents")
        .x_label_formatter(&length)
        .y_label_formatter(&|count| with_commas(*count as u64))
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    for bin in first..bins {
        let (low, high) = (at(kept, bin) as f64, (at(kept, bin) + at(dropped, bin)) as f64);
        let (left, right) = (bin as f64 + 0.06, bin as f64 + 0.94);
        let bars = [(0.0, low, KEPT), (low, high, DROPPED)];
        let bars = bars.into_iter().filter(|(from, to, _)| to > from);
        chart.draw_series(bars.map(|(from, to, colour)| {
            Rectangle::new([(left, from), (right, to)], colour.filled())
        }))?;
    }
    root.present()?;
    Ok(())
}

/// 1,234,567.
fn with_commas(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 950 B, 1.2 kB, 34 MB.
fn with_unit(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let decimals = usize::from(unit != "B" && value < 9.95);
    format!("{value:.decimals$} {unit}")
}
