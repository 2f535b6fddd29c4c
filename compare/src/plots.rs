//! Throughput and latency over requests in flight, as SVG.

use std::path::Path;

use plotters::{coord::Shift, prelude::*};

use crate::{
    Error, Result,
    report::docs,
    stores::Name,
    tables::{Figures, IN_FLIGHT, PERCENTILES, Row, Tables},
    workload::Workload,
};

const PANEL: (u32, u32) = (430, 380);
const COLOURS: [RGBColor; 7] = [
    RGBColor(214, 39, 40),
    RGBColor(90, 90, 90),
    RGBColor(160, 160, 160),
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
];

/// A line: who, and a value for each number of requests in flight.
type Line = (Name, Vec<(f64, f64)>);

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

/// Ours from its rounds beside the floor, everybody else from theirs.
fn lines(rows: &[Row], workload: Workload, value: impl Fn(&Figures) -> f64) -> Vec<Line> {
    let line = |rival: Name, side: fn(&Row) -> &Figures| {
        let rows = rows.iter().filter(|row| row.workload == workload && row.rival == rival);
        rows.map(|row| (row.in_flight as f64, value(side(row)))).collect::<Vec<_>>()
    };
    let mut lines = vec![(Name::SessionRing, line(Name::Multiplexed, |row| &row.ours))];
    lines.extend(Name::RIVALS.map(|rival| (rival, line(rival, |row| &row.theirs))));
    lines.retain(|(_, points)| !points.is_empty());
    lines
}

fn draw_panels(path: &Path, panels: &[(String, Vec<Line>)]) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Error::from(format!("{}: {error}", path.display()));
    let root = SVGBackend::new(path, (PANEL.0 * panels.len() as u32, PANEL.1)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    for (area, (title, lines)) in root.split_evenly((1, panels.len())).iter().zip(panels) {
        draw_panel(area, title, lines).map_err(|error| failed(&error))?;
    }
    root.present().map_err(|error| failed(&error))
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let values =
        || lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)).filter(|y| *y > 0.0);
    let least = values().fold(f64::INFINITY, f64::min).min(1e9);
    let most = values().fold(least, f64::max);
    let callers = IN_FLIGHT.map(|callers| callers as f64);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(34)
        .y_label_area_size(54)
        .build_cartesian_2d(
            (callers[0] * 0.8..callers[callers.len() - 1] * 1.25).log_scale(),
            (least * 0.8..most * 1.25).log_scale(),
        )?;
    chart.configure_mesh().x_desc("requests in flight").light_line_style(TRANSPARENT).draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        let width = if *name == Name::SessionRing { 3 } else { 1 };
        let style = colour.stroke_width(width);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(name.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    Ok(())
}
