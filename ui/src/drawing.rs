//! A graph as a drawing, in SVG: columns from left to right, a box a node, a curve an edge. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::graph::{Graph, Node};

/// Sizes, in pixels.
const WIDTH: f64 = 200.;
const HEIGHT: f64 = 46.;
const BETWEEN: (f64, f64) = (96., 20.);
const EDGE: f64 = 16.;
/// How many letters fit in a box.
const LETTERS: usize = 27;
/// How often columns are put in the order of what leads to them, or of where they lead.
const SWEEPS: usize = 6;

/// Text and lines are in the color of what is around it, so that it fits light and dark.
pub(crate) fn svg(graph: &Graph) -> String {
    let columns = columns(graph);
    let tallest = columns.iter().map(Vec::len).max().unwrap_or_default();
    let (step, total) = (HEIGHT + BETWEEN.1, tallest as f64 * (HEIGHT + BETWEEN.1));
    let mut places: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (column, nodes) in columns.iter().enumerate() {
        let above = (total - nodes.len() as f64 * step) / 2.;
        for (row, id) in nodes.iter().enumerate() {
            let x = EDGE + column as f64 * (WIDTH + BETWEEN.0);
            places.insert(*id, (x, EDGE + above + row as f64 * step));
        }
    }
    let width = 2. * EDGE + columns.len().max(1) as f64 * (WIDTH + BETWEEN.0) - BETWEEN.0;
    let height = 2. * EDGE + total.max(step) + HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"currentColor\">\n\
         <style>@media (prefers-color-scheme: dark) {{ svg:root {{ color: #ddd; background: #16181b; }} }}</style>\n\
         <defs><marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n"
    );
    for edge in &graph.edges {
        let (Some(from), Some(to)) = (places.get(&edge.from), places.get(&edge.to)) else { continue };
        let (a, b) = ((from.0 + WIDTH, from.1 + HEIGHT / 2.), (to.0, to.1 + HEIGHT / 2.));
        let (path, label) = if to.0 > from.0 {
            let bend = (b.0 - a.0) / 2.;
            let path = format!(
                "M{:.0} {:.0}C{:.0} {:.0} {:.0} {:.0} {:.0} {:.0}",
                a.0,
                a.1,
                a.0 + bend,
                a.1,
                b.0 - bend,
                b.1,
                b.0,
                b.1
            );
            (path, ((a.0 + b.0) / 2., (a.1 + b.1) / 2. - 4.))
        } else {
            // Back, below the boxes.
            let low = a.1.max(b.1) + HEIGHT;
            let path = format!(
                "M{:.0} {:.0}C{:.0} {low:.0} {:.0} {low:.0} {:.0} {:.0}",
                a.0,
                a.1,
                a.0 + BETWEEN.0 / 2.,
                b.0 - BETWEEN.0 / 2.,
                b.0,
                b.1
            );
            (path, ((a.0 + b.0) / 2., low - HEIGHT / 4.))
        };
        let moves = if edge.per_second > 0. { 0.8 } else { 0.3 };
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"currentColor\" stroke-opacity=\"{moves}\" marker-end=\"url(#end)\"/>"
        );
        if edge.per_second > 0. {
            let rate = rate(edge.per_second);
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\" font-size=\"11\">{rate} {}/s</text>",
                label.0, label.1, edge.of
            );
        }
    }
    for node in &graph.nodes {
        if let Some((x, y)) = places.get(&node.id) {
            boxed(&mut svg, node, *x, *y);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn boxed(svg: &mut String, node: &Node, x: f64, y: f64) {
    let (color, strength) = match node.state {
        "busy" => ("#e8590c", 0.35),
        "held back" => ("#c2255c", 0.35),
        "moving" => ("#2f9e44", 0.25),
        _ => ("#868e96", 0.12),
    };
    let round = if matches!(node.kind, "source" | "sink" | "view") { 22 } else { 5 };
    let mut facts = vec![node.kind.to_owned(), format!("{:.0} %", node.busy * 100.)];
    if let Some(arranged) = node.arranged {
        facts.push(format!("{} kept", rate(arranged as f64)));
    }
    if node.waiting > 0 {
        facts.push(format!("{} wait", rate(node.waiting as f64)));
    }
    let about = match node.operators.is_empty() {
        true => node.name.clone(),
        false => node.operators.join("\n"),
    };
    let name = match node.name.chars().count() {
        0..=LETTERS => node.name.clone(),
        _ => node.name.chars().take(LETTERS - 1).chain(['…']).collect(),
    };
    let _ = writeln!(
        svg,
        "<g data-node=\"{}\" data-state=\"{}\"><title>{}: {}\nbusy {:.1} % of the workers, holds a time of {} ms ago, gets one of {} ms ago</title>\
         <rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{WIDTH:.0}\" height=\"{HEIGHT:.0}\" rx=\"{round}\" fill=\"{color}\" \
         fill-opacity=\"{strength}\" stroke=\"{color}\"/>\
         <text x=\"{:.0}\" y=\"{:.0}\" font-weight=\"600\">{}</text>\
         <text x=\"{:.0}\" y=\"{:.0}\" font-size=\"11\" fill-opacity=\"0.8\">{}</text></g>",
        node.id,
        node.state,
        node.state,
        escaped(&about),
        node.busy * 100.,
        node.lag,
        node.inherited_lag,
        x + 12.,
        y + 19.,
        escaped(&name),
        x + 12.,
        y + 35.,
        escaped(&facts.join(" · ")),
    );
}

/// The nodes of each column, so that few edges cross.
fn columns(graph: &Graph) -> Vec<Vec<usize>> {
    let layers = graph.layers();
    let mut columns = vec![Vec::new(); layers.values().max().map_or(0, |last| last + 1)];
    for node in &graph.nodes {
        columns[layers[&node.id]].push(node.id);
    }
    for sweep in 0..SWEEPS {
        let mut rows: BTreeMap<usize, f64> = BTreeMap::new();
        let place = |column: &[usize], rows: &mut BTreeMap<usize, f64>| {
            // Columns stand around one middle.
            let middle = (column.len() as f64 - 1.) / 2.;
            rows.extend(column.iter().enumerate().map(|(row, id)| (*id, row as f64 - middle)));
        };
        columns.iter().for_each(|column| place(column, &mut rows));
        let order: Vec<usize> = match sweep % 2 {
            0 => (1..columns.len()).collect(),
            _ => (0..columns.len().saturating_sub(1)).rev().collect(),
        };
        for column in order {
            let beside = |id: usize| {
                let near = graph.edges.iter().filter_map(|edge| match sweep % 2 {
                    0 => (edge.to == id).then(|| rows[&edge.from]),
                    _ => (edge.from == id).then(|| rows[&edge.to]),
                });
                let (sum, count) = near.fold((0., 0.), |(sum, count), row| (sum + row, count + 1.));
                if count > 0. { sum / count } else { rows[&id] }
            };
            let mut sorted: Vec<(f64, usize)> = columns[column].iter().map(|id| (beside(*id), *id)).collect();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            columns[column] = sorted.into_iter().map(|(_, id)| id).collect();
            place(&columns[column], &mut rows);
        }
    }
    columns
}

/// A number at a glance.
fn rate(number: f64) -> String {
    match number {
        n if n >= 999_500. => format!("{:.1}M", n / 1e6),
        n if n >= 999.5 => format!("{:.1}k", n / 1e3),
        n if n < 9.95 && n.fract() > 0.05 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use nekton_engine::Figures;

    use super::*;
    use crate::graph::tests::example;

    #[test]
    fn boxes_stand_in_columns_and_names_stay_text() {
        let mut dataflow = example();
        dataflow.operators[3].name = "Agents: <b>\"v\"".to_owned();
        let mut graph = Graph::between(&dataflow, &dataflow, &Figures::default(), 0);
        graph.edges[0].per_second = 1_234.;
        let svg = svg(&graph);
        assert!(svg.contains("&lt;b&gt;&quot;v&quot;</text>") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("1.2k blocks/s</text>"), "{svg}");
        let x = |id: usize| -> f64 {
            let node = svg.split(&format!("data-node=\"{id}\"")).nth(1).unwrap();
            node.split("x=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        assert!(x(1) < x(2) && x(2) < x(3) && x(3) < x(7) && x(3) == x(8));
        assert_eq!(columns(&Graph::default()), Vec::<Vec<usize>>::new());
    }
}
