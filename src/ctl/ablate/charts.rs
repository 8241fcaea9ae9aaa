//! Charts of an ablation, as SVG.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use super::arms::{ALONE, BOOSTER, ROCKET};
use super::report::{Ablation, ArmReport, Mean, Metrics};
use crate::domain::Head;

const FONT: &str = "sans-serif";
const TEXT: u32 = 14;
const TITLE: u32 = 18;
/// Pixels of one panel's width, of its names, and of one arm's line.
const PANEL: u32 = 520;
const NAMES: u32 = 150;
const LINE: u32 = 26;
/// Room for title and axis.
const FRAME: u32 = 90;
/// Room left and right of the outermost figures, in parts of their range.
const MARGIN: f64 = 0.08;

/// One figure of the arms.
type Get = fn(&Metrics<Mean>) -> Mean;

const PANELS: [(&str, Get); 2] = [("AUC", |metrics| metrics.auc), ("GAUC", |metrics| metrics.gauc)];

/// Writes `arms.svg`, and `sweep.svg` where there is more than one shape of light nets.
pub(super) fn draw(dir: &Path, ablation: &Ablation) -> Result<(), Box<dyn Error>> {
    arms(&dir.join("arms.svg"), ablation)?;
    let shapes = |name: &'static str| ablation.arms.iter().filter(move |arm| arm.name.starts_with(name));
    if shapes(ALONE).count() > 1 { sweep(&dir.join("sweep.svg"), ablation) } else { Ok(()) }
}

/// The head an arm is about.
fn head(arm: &ArmReport) -> Head {
    if arm.name == BOOSTER { Head::Booster } else { Head::Light }
}

/// A dot with two standard errors to either side for each arm.
fn arms(path: &Path, ablation: &Ablation) -> Result<(), Box<dyn Error>> {
    let arms = &ablation.arms;
    let height = FRAME + LINE * arms.len() as u32;
    let root = SVGBackend::new(path, (PANEL * PANELS.len() as u32, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for ((title, get), panel) in PANELS.into_iter().zip(root.split_evenly((1, PANELS.len()))) {
        let figures: Vec<Option<(f64, f64)>> = arms.iter().map(|arm| interval(get(arm.heads.get(head(arm).name())?))).collect();
        let range = around(figures.iter().flatten().flat_map(|(mean, error)| [mean - error, mean + error]));
        let mut chart = ChartBuilder::on(&panel)
            .caption(format!("{title} of light, ± 2 standard errors over seeds"), (FONT, TITLE))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(NAMES)
            .build_cartesian_2d(range, (0..arms.len()).into_segmented())?;
        let name = |place: &SegmentValue<usize>| match place {
            // The axis asks for one label more than there are arms.
            SegmentValue::CenterOf(i) => arms.iter().rev().nth(*i).map_or_else(String::new, |arm| arm.name.clone()),
            _ => String::new(),
        };
        chart.configure_mesh().y_labels(arms.len()).y_label_formatter(&name).x_labels(5).label_style((FONT, TEXT)).draw()?;
        for (i, figure) in figures.iter().rev().enumerate() {
            let Some((mean, error)) = figure else { continue };
            let at = |x: f64| (x, SegmentValue::CenterOf(i));
            chart.draw_series([PathElement::new([at(mean - error), at(mean + error)], BLUE.stroke_width(2))])?;
            chart.draw_series([Circle::new(at(*mean), 4, BLUE.filled())])?;
        }
    }
    root.present()?;
    Ok(())
}

/// AUC of light alone and of rocket's light over the multiplications they cost.
fn sweep(path: &Path, ablation: &Ablation) -> Result<(), Box<dyn Error>> {
    let light = Head::Light.name();
    let series = [(ALONE, RED), (ROCKET, BLUE)].map(|(name, colour)| {
        let mut points: Vec<(f64, f64, f64)> = ablation
            .arms
            .iter()
            .filter(|arm| arm.name.starts_with(name))
            .filter_map(|arm| {
                let (mean, error) = interval(arm.heads.get(light)?.auc)?;
                Some((*arm.multiplications.get(light)? as f64, mean, error))
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (name, colour, points)
    });
    let all = || series.iter().flat_map(|(_, _, points)| points);
    let (x, y) = (around(all().map(|point| point.0)), around(all().flat_map(|(_, mean, error)| [mean - error, mean + error])));
    let root = SVGBackend::new(path, (PANEL + NAMES, PANEL)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("AUC of light by its size, ± 2 standard errors over seeds", (FONT, TITLE))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((x.start.max(1.0)..x.end).log_scale(), y)?;
    chart.configure_mesh().x_desc("multiplications per example").label_style((FONT, TEXT)).draw()?;
    for (name, colour, points) in &series {
        chart
            .draw_series(LineSeries::new(points.iter().map(|(x, y, _)| (*x, *y)), colour.stroke_width(2)))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|(x, y, e)| ErrorBar::new_vertical(*x, y - e, *y, y + e, colour.filled(), 8)))?;
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).label_font((FONT, TEXT)).draw()?;
    root.present()?;
    Ok(())
}

/// A mean and twice its standard error.
fn interval(mean: Mean) -> Option<(f64, f64)> {
    Some((mean.mean?, 2.0 * mean.stderr.unwrap_or(0.0)))
}

/// A range that holds all of `values` and some room; (0, 1) for none.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return 0.0..1.0;
    }
    let room = ((high - low) * MARGIN).max(f64::EPSILON.max(high.abs() * 1e-6));
    low - room..high + room
}
