//! Throughput and latency over requests in flight, as SVG.

use std::path::Path;

use plotters::{coord::Shift, prelude::*};

use crate::{
    Error, Result,
    report::docs,
    statistics::Spread,
    stores::Name,
    tables::{Figures, IN_FLIGHT, PERCENTILES, Row, Tables},
    workload::Workload,
};

const PANEL: (u32, u32) = (430, 380);
/// The width of what the lines are called.
const LEGEND: u32 = 170;

/// A line: who, and a value at positions of [`IN_FLIGHT`].
type Line = (Name, Vec<(usize, f64)>);

/// Writes `docs/plots/compare-throughput.svg` and `docs/plots/compare-latency.svg`.
pub(crate) fn draw(tables: &Tables) -> Result<()> {
    let folder = docs().join("plots");
    std::fs::create_dir_all(&folder)?;
    let throughput = [Workload::Get, Workload::Set].map(|workload| {
        let lines = lines(&tables.in_flight, workload, |figures| figures.per_second / 1000.0);
        (format!("{workload}, 1,000 a second"), lines)
    });
    draw_panels(&folder.join("compare-throughput.svg"), &throughput)?;
    let mut latency = Vec::new();
    for (i, percent) in PERCENTILES.iter().enumerate() {
        let lines = lines(&tables.in_flight, Workload::Get, |figures| figures.latency[i]);
        latency.push((format!("p{percent} of get, µs"), lines));
    }
    draw_panels(&folder.join("compare-latency.svg"), &latency)
}

/// Rivals stand to ours as they did in their own rounds, so that the machine's ups and downs between the pairs do not
/// bend the lines: ours is the median of all its rounds, and each rival's ratio is of its own pairs.
fn lines(rows: &[Row], workload: Workload, value: impl Fn(&Figures) -> f64) -> Vec<Line> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
    let ours = IN_FLIGHT.map(|callers| {
        let rows = rows.iter().filter(|row| row.in_flight == callers);
        Spread::of(rows.map(|row| value(&row.ours))).map_or(0.0, |spread| spread.median)
    });
    let mut lines = vec![(Name::SessionRing, ours.into_iter().enumerate().collect())];
    for rival in Name::RIVALS {
        let points: Vec<(usize, f64)> = (IN_FLIGHT.iter().enumerate())
            .filter_map(|(x, &callers)| {
                let row = rows.iter().find(|row| row.rival == rival && row.in_flight == callers)?;
                Some((x, ours[x] * value(&row.theirs) / value(&row.ours)))
            })
            .collect();
        if !points.is_empty() {
            lines.push((rival, points));
        }
    }
    lines
}

fn draw_panels(path: &Path, panels: &[(String, Vec<Line>)]) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Error::from(format!("{}: {error}", path.display()));
    let width = PANEL.0 * panels.len() as u32;
    let root = SVGBackend::new(path, (width + LEGEND, PANEL.1)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let (charts, legend) = root.split_horizontally(width);
    for (area, (title, lines)) in charts.split_evenly((1, panels.len())).iter().zip(panels) {
        draw_panel(area, title, lines).map_err(|error| failed(&error))?;
    }
    if let Some((_, lines)) = panels.first() {
        draw_legend(&legend, lines).map_err(|error| failed(&error))?;
    }
    root.present().map_err(|error| failed(&error))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_panel(area: &Area<'_>, title: &str, lines: &[Line]) -> Drawn {
    let values =
        || lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)).filter(|y| *y > 0.0);
    let least = values().fold(f64::INFINITY, f64::min).min(1e9);
    let most = values().fold(least, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(50)
        .build_cartesian_2d(-0.2..IN_FLIGHT.len() as f64 - 0.8, (least * 0.8..most * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("requests in flight")
        .x_labels(IN_FLIGHT.len())
        .x_label_formatter(&|x| {
            let near = IN_FLIGHT.get(x.round() as usize).filter(|_| (x - x.round()).abs() < 0.01);
            near.map(usize::to_string).unwrap_or_default()
        })
        .y_label_formatter(&|y| format!("{y:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (name, points) in lines.iter().rev() {
        let points = points.iter().map(|&(x, y)| (x as f64, y));
        chart.draw_series(LineSeries::new(points, style(*name)).point_size(3))?;
    }
    Ok(())
}

fn draw_legend(area: &Area<'_>, lines: &[Line]) -> Drawn {
    for (i, (name, _)) in lines.iter().enumerate() {
        let y = 50 + 22 * i as i32;
        area.draw(&PathElement::new([(4, y), (24, y)], style(*name)))?;
        area.draw(&Text::new(name.to_string(), (30, y - 6), ("sans-serif", 13)))?;
    }
    Ok(())
}

/// Ours is the thick line.
fn style(name: Name) -> ShapeStyle {
    let (red, green, blue, width) = match name {
        Name::SessionRing | Name::Sealed => (214, 39, 40, 3),
        Name::Multiplexed => (60, 60, 60, 1),
        Name::ConnectionManager => (150, 150, 150, 1),
        Name::Cluster => (31, 119, 180, 1),
        Name::Twemproxy => (255, 127, 14, 1),
        Name::Fred => (44, 160, 44, 1),
        Name::Rustis => (148, 103, 189, 1),
        Name::Coalesced | Name::Versioned => (200, 200, 200, 1),
    };
    RGBColor(red, green, blue).stroke_width(width)
}
