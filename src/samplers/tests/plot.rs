//! A plot of errors over evaluations, as SVG: one panel for each order, both axes logarithmic.

use std::fmt::Write as _;

/// One line of the plot.
pub(super) struct Curve {
    pub(super) name: &'static str,
    /// Order, which is the panel.
    pub(super) panel: usize,
    /// Evaluations and error.
    pub(super) points: Vec<(usize, f64)>,
}

const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 360.0;
const GAP: f64 = 150.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 50.0;
const EVALUATIONS: (f64, f64) = (14.0, 800.0);
const ERRORS: (f64, f64) = (2e-7, 0.5);
const LINE: f64 = 13.0;
const COLOURS: [&str; 8] = [
    "#4269d0", "#c9710a", "#ff725c", "#2b8c7e", "#3ca951", "#b03a8c", "#7a5a3c", "#6b7280",
];

fn share(value: f64, (low, high): (f64, f64)) -> f64 {
    (value / low).ln() / (high / low).ln()
}

/// The whole picture; errors under `floor` are rounding.
pub(super) fn svg(curves: &[Curve], floor: f64) -> String {
    let mut panels: Vec<usize> = curves.iter().map(|curve| curve.panel).collect();
    panels.dedup();
    let width = LEFT + panels.len() as f64 * (WIDTH + GAP);
    let height = TOP + HEIGHT + 50.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (place, &panel) in panels.iter().enumerate() {
        let left = LEFT + place as f64 * (WIDTH + GAP);
        frame(&mut out, left, panel, floor);
        let inside: Vec<&Curve> = curves.iter().filter(|curve| curve.panel == panel).collect();
        lines(&mut out, left, &inside);
    }
    out.push_str("</svg>\n");
    out
}

fn x_of(left: f64, evaluations: f64) -> f64 {
    left + WIDTH * share(evaluations, EVALUATIONS)
}

fn y_of(error: f64) -> f64 {
    TOP + HEIGHT * (1.0 - share(error.clamp(ERRORS.0, ERRORS.1), ERRORS))
}

fn frame(out: &mut String, left: f64, panel: usize, floor: f64) {
    let (right, bottom) = (left + WIDTH, TOP + HEIGHT);
    let middle = left + WIDTH / 2.0;
    writeln!(
        out,
        "<text x=\"{left}\" y=\"30\" font-size=\"14\" fill=\"#222\">order {panel}{}</text>",
        if panel == 2 { " and above" } else { "" }
    )
    .unwrap();
    for evaluations in [16, 32, 64, 128, 256, 512] {
        let x = x_of(left, f64::from(evaluations));
        writeln!(
            out,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#eee\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\" fill=\"#555\">{evaluations}</text>",
            bottom + 15.0
        )
        .unwrap();
    }
    for power in 1..=6 {
        let y = y_of(10.0_f64.powi(-power));
        writeln!(
            out,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#eee\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\" fill=\"#555\">1e-{power}</text>",
            left - 6.0,
            y + 4.0
        )
        .unwrap();
    }
    let y = y_of(floor);
    writeln!(
        out,
        "<rect x=\"{left}\" y=\"{y:.1}\" width=\"{WIDTH}\" height=\"{:.1}\" fill=\"#f4f4f4\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#777\">rounding of f32</text>",
        bottom - y,
        left + 6.0,
        bottom - 6.0
    )
    .unwrap();
    // What the order means: a dashed line of that steepness.
    let (from, to) = ((16.0, 0.3), 512.0_f64);
    let mut end = to;
    let mut error = from.1 * (from.0 / end).powi(panel as i32);
    if error < ERRORS.0 {
        end = from.0 * (from.1 / ERRORS.0).powf(1.0 / panel as f64);
        error = ERRORS.0;
    }
    writeln!(
        out,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#999\" stroke-dasharray=\"4 4\" fill=\"none\"/>\
         <path d=\"M{left} {TOP}V{bottom}H{right}\" stroke=\"#999\" fill=\"none\"/>\
         <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#222\">evaluations of the model</text>",
        x_of(left, from.0),
        y_of(from.1),
        x_of(left, end),
        y_of(error),
        bottom + 34.0
    )
    .unwrap();
}

/// The curves with their names beside, in the order of their ends and never one over another.
fn lines(out: &mut String, left: f64, curves: &[&Curve]) {
    let end = |curve: &Curve| curve.points[curve.points.len() - 1];
    let mut sorted: Vec<&Curve> = curves.to_vec();
    sorted.sort_by(|a, b| end(b).1.total_cmp(&end(a).1));
    let mut below = f64::NEG_INFINITY;
    let room = sorted.len() as f64 * LINE;
    for (place, curve) in sorted.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let mut path = String::new();
        for (index, &(evaluations, error)) in curve.points.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let (x, y) = (x_of(left, evaluations as f64), y_of(error));
            write!(path, "{letter}{x:.1} {y:.1}").unwrap();
        }
        let (evaluations, error) = end(curve);
        let (x, y) = (x_of(left, evaluations as f64), y_of(error));
        let latest = TOP + HEIGHT - room + place as f64 * LINE;
        let label = y.min(latest.max(TOP)).max(below + LINE);
        below = label;
        writeln!(
            out,
            "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"1.4\" fill=\"none\"/>\
             <path d=\"M{x:.1} {y:.1}L{:.1} {label:.1}\" stroke=\"{colour}\" stroke-width=\"0.5\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            left + WIDTH + 6.0,
            left + WIDTH + 9.0,
            label + 4.0,
            curve.name
        )
        .unwrap();
    }
}
