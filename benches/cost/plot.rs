//! The plot of a run: the CPU time of each proxy as a ratio to plain `tcp_proxy`, one panel for each load.

use std::fmt::Write as _;

use crate::results::{CPU, Measured, Results};
use crate::sides::{NAMES, PLAIN};

const PANEL_WIDTH: f64 = 460.0;
const BAR: f64 = 22.0;
const TITLE: f64 = 30.0;
const LABEL_WIDTH: f64 = 190.0;
/// Width of the text with the ratio, after the longest bar.
const VALUE_WIDTH: f64 = 45.0;
const COLUMNS: usize = 2;

/// Draws the plot as SVG. The lines over the bars are the ranges of the medians.
pub(crate) fn draw(results: &Results) -> String {
    let proxies = NAMES.len() - 1;
    let panel_height = TITLE + BAR * proxies as f64 + 14.0;
    let rows = results.measured.len().div_ceil(COLUMNS);
    let (width, height) = (PANEL_WIDTH * COLUMNS as f64, panel_height * rows as f64 + TITLE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">CPU time of the proxy, to plain tcp_proxy ({}, {} rounds)</text>\n",
        results.machine.date, results.rounds
    );
    for (index, measured) in results.measured.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let (x, y) = (PANEL_WIDTH * column as f64, TITLE + panel_height * row as f64);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", panel(measured));
    }
    svg + "</svg>\n"
}

fn panel(measured: &Measured) -> String {
    let bars: Vec<_> = (PLAIN..NAMES.len())
        .filter_map(|side| Some((NAMES[side], measured.ratio(side, PLAIN, CPU)?)))
        .collect();
    let most = bars.iter().map(|(_, ratio)| ratio.high).fold(1.0, f64::max);
    let scale = (PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most;
    let at = |ratio: f64| LABEL_WIDTH + ratio * scale;
    let mut svg = format!("<text x=\"8\" y=\"20\" font-weight=\"bold\">{}</text>\n", measured.load.title);
    for (index, (name, ratio)) in bars.iter().enumerate() {
        let y = TITLE + BAR * index as f64;
        let middle = y + BAR / 2.0 - 2.0;
        let colour = if name.starts_with("Firstword") { "#2b6cb0" } else { "#a0aec0" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LABEL_WIDTH}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"black\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>",
            LABEL_WIDTH - 6.0,
            middle + 4.0,
            ratio.median * scale,
            BAR - 4.0,
            at(ratio.low),
            at(ratio.high),
            at(ratio.high.max(ratio.median)) + 5.0,
            middle + 4.0,
            ratio.median,
        );
    }
    let (one, bottom) = (at(1.0), TITLE + BAR * bars.len() as f64);
    let _ = writeln!(
        svg,
        "<path d=\"M{one:.1} {TITLE}V{bottom:.1}\" stroke=\"black\" stroke-dasharray=\"3 3\"/>"
    );
    svg
}
