//! `loss.svg`: training loss, its moving average, validation losses, and the unigram entropy.
//!
//! ```
//! use train::metrics::Curves;
//! use train::plot;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("loss.svg");
//! let curves = Curves { train: vec![(1, 4.5), (2, 4.0), (3, 3.75)], val: vec![(3, 3.8)] };
//! plot::write(&path, &curves, Some(4.1))?;
//! assert!(std::fs::read_to_string(&path)?.contains("validation, last 3.800"));
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::error::Error;
use crate::metrics::Curves;

/// Picture size in pixels.
const SIZE: (u32, u32) = (900, 520);

/// Most points of one curve; more would be invisible and make the file large.
const MAX_POINTS: usize = 1500;

const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xe8, 0xe8, 0xe8);
const RAW: RGBColor = RGBColor(0xb9, 0xd0, 0xea);
const SMOOTH: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const VAL: RGBColor = RGBColor(0xd9, 0x5f, 0x02);
const ENTROPY: RGBColor = RGBColor(0x77, 0x77, 0x77);

/// Draws the curves into `path`, replacing it as a whole. `unigram_entropy` is in nats per
/// token: what a model that knows only how frequent each token is would reach.
///
/// # Errors
/// [`Error::Io`] if it cannot be written.
pub fn write(path: &Path, curves: &Curves, unigram_entropy: Option<f64>) -> Result<(), Error> {
    let svg = draw(curves, unigram_entropy);
    store::write(path, svg.as_bytes()).map_err(Error::io("cannot write the plot", path))
}

/// The picture as SVG text.
fn draw(curves: &Curves, unigram_entropy: Option<f64>) -> String {
    let finite = |points: &[(u64, f64)]| -> Vec<(u64, f64)> {
        points.iter().copied().filter(|(_, loss)| loss.is_finite()).collect()
    };
    let curves = Curves { train: finite(&curves.train), val: finite(&curves.val) };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_on(&root, &curves, unigram_entropy).expect("drawing into memory cannot fail");
    }
    svg
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_on(root: &Area, curves: &Curves, unigram_entropy: Option<f64>) -> Drawn {
    let last = curves.train.iter().chain(&curves.val).map(|(step, _)| *step).max();
    let end = last.unwrap_or(1).max(1) as f64;
    let losses = loss_range(curves, unigram_entropy);
    let decimals = if losses.end - losses.start < 1.0 { 2 } else { 1 };

    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(root)
        .margin(16)
        .margin_right(28)
        .x_label_area_size(46)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..end, losses)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss, nats per token")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.decimals$}"))
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 16).into_font().color(&INK))
        .draw()?;

    if let Some(entropy) = unigram_entropy {
        let line = [(0.0, entropy), (end, entropy)];
        chart.draw_series(DashedLineSeries::new(line, 6, 4, ENTROPY.stroke_width(2)))?;
    }
    chart.draw_series(LineSeries::new(thin(&curves.train), RAW.stroke_width(1)))?;
    let smooth = thin(&smoothed(&curves.train));
    chart.draw_series(LineSeries::new(smooth, SMOOTH.stroke_width(2)))?;
    let val = thin(&curves.val);
    chart.draw_series(LineSeries::new(val.iter().copied(), VAL.stroke_width(1)))?;
    chart.draw_series(val.into_iter().map(|at| Circle::new(at, 3, VAL.filled())))?;
    draw_legend(root, curves, unigram_entropy)?;
    root.present()?;
    Ok(())
}

/// Names each curve that there is, at the top right, where a falling loss leaves room.
fn draw_legend(root: &Area, curves: &Curves, unigram_entropy: Option<f64>) -> Drawn {
    let mut rows: Vec<(String, ShapeStyle, bool)> = Vec::new();
    if !curves.train.is_empty() {
        rows.push(("training".to_string(), RAW.stroke_width(1), false));
        rows.push(("training, moving average".to_string(), SMOOTH.stroke_width(2), false));
    }
    if let Some((_, loss)) = curves.val.last() {
        rows.push((format!("validation, last {loss:.3}"), VAL.stroke_width(2), false));
    }
    if let Some(entropy) = unigram_entropy {
        rows.push((format!("unigram entropy {entropy:.3}"), ENTROPY.stroke_width(2), true));
    }
    let (left, top, row) = (SIZE.0 as i32 - 270, 30, 22);
    let corner = (left + 236, top + row * rows.len() as i32 + 8);
    root.draw(&Rectangle::new([(left, top), corner], WHITE.filled()))?;
    root.draw(&Rectangle::new([(left, top), corner], GRID.stroke_width(1)))?;
    let font = ("sans-serif", 14).into_font().color(&INK);
    for (i, (text, style, dashed)) in rows.into_iter().enumerate() {
        let y = top + 15 + row * i as i32;
        for (begin, end) in if dashed { [(12, 23), (29, 40)] } else { [(12, 26), (26, 40)] } {
            root.draw(&PathElement::new([(left + begin, y), (left + end, y)], style))?;
        }
        root.draw(&Text::new(text, (left + 50, y - 7), font.clone()))?;
    }
    Ok(())
}

/// From a little below the least to a little above the largest value shown.
fn loss_range(curves: &Curves, unigram_entropy: Option<f64>) -> std::ops::Range<f64> {
    let losses = curves.train.iter().chain(&curves.val).map(|(_, loss)| *loss);
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = losses
        .chain(unigram_entropy)
        .fold(start, |(low, high), loss| (low.min(loss), high.max(loss)));
    if low > high {
        return 0.0..1.0;
    }
    let pad = (0.05 * (high - low)).max(0.01);
    (low - pad).max(0.0)..high + pad
}

/// Mean over a window of a fiftieth of the run around each point, narrower at both ends, so
/// that the curve neither lags nor jumps.
fn smoothed(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let n = points.len();
    let mut sums = Vec::with_capacity(n + 1);
    sums.push(0.0);
    for (_, loss) in points {
        sums.push(sums[sums.len() - 1] + loss);
    }
    let mean = |i: usize| {
        let half = (n / 100).min(i).min(n - 1 - i);
        let (begin, end) = (i - half, i + half + 1);
        (sums[end] - sums[begin]) / (end - begin) as f64
    };
    (0..n).map(|i| (points[i].0, mean(i))).collect()
}

/// At most [`MAX_POINTS`] points: of each run of neighbours the lowest and the highest, in their
/// order, so that no spike is lost.
fn thin(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let at = |(step, loss): &(u64, f64)| (*step as f64, *loss);
    if points.len() <= MAX_POINTS {
        return points.iter().map(at).collect();
    }
    let run = points.len().div_ceil(MAX_POINTS / 2);
    let ends = points.chunks(run).flat_map(|chunk| {
        let low = chunk.iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("chunks are not empty");
        let high = chunk.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("chunks are not empty");
        if low.0 <= high.0 { [low, high] } else { [high, low] }
    });
    ends.map(at).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn falling(steps: u64) -> Vec<(u64, f64)> {
        (1..=steps).map(|s| (s, 2.0 + 4.0 / (1.0 + s as f64 / 50.0))).collect()
    }

    #[test]
    fn the_picture_has_axes_curves_and_names_as_text() {
        let curves = Curves { train: falling(400), val: vec![(200, 3.0), (400, 2.5)] };
        let svg = draw(&curves, Some(5.125));
        let flat = svg.replace('\n', "");
        for text in [
            ">step<",
            ">loss, nats per token<",
            ">training, moving average<",
            ">validation, last 2.500<",
            ">unigram entropy 5.125<",
        ] {
            assert!(flat.contains(text), "{text} is missing");
        }
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.trim_end().ends_with("</svg>"));
        assert!(!draw(&curves, None).contains("unigram"));
    }

    #[test]
    fn odd_curves_are_drawn_too() {
        let one = Curves { train: vec![(1, 3.0)], val: Vec::new() };
        let spike = Curves { train: vec![(1, f64::INFINITY), (2, 1.0)], val: vec![(2, f64::NAN)] };
        for curves in [Curves::default(), one, spike] {
            assert!(draw(&curves, None).contains("</svg>"));
        }
    }

    #[test]
    fn long_runs_stay_small_and_keep_their_spikes() {
        let mut points = falling(1_000_000);
        points[654_321].1 = 99.0;
        points[777_777].1 = 0.5;
        let thinned = thin(&points);
        assert!(thinned.len() <= MAX_POINTS);
        assert!(thinned.contains(&(654_322.0, 99.0)) && thinned.contains(&(777_778.0, 0.5)));
        assert!(thinned.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn smoothing_keeps_a_line_and_quiets_noise() {
        let line: Vec<_> = (0..500).map(|i| (i, i as f64)).collect();
        assert_eq!(smoothed(&line), line);
        let noise: Vec<_> = (0..500).map(|i| (i, (i % 2) as f64)).collect();
        assert!(smoothed(&noise)[20..480].iter().all(|(_, y)| (y - 0.5).abs() < 0.1));
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loss.svg");
        fs::write(&path, "old").unwrap();
        write(&path, &Curves { train: falling(10), val: Vec::new() }, None).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("<svg"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
