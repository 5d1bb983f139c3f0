//! `nekton explain`: the dataflow of a job that runs, as text and as a drawing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use nekton::{Error, Result};
use serde_json::Value;

use crate::job::{Job, Token};
use crate::records::{short, span};
use crate::tap::written;

/// Prints what a job's dataflow is made of, how busy each part of it is, and what goes from one to another.
#[derive(Args)]
pub(crate) struct Command {
    /// Where the job shows itself, as it said when it started
    #[arg(value_name = "URL", env = "NEKTON_JOB", default_value = "http://127.0.0.1:9090")]
    url: String,
    /// Write a drawing to this file, in SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    token: Token,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let job = Job::at(&command.url, command.token.read()?)?;
    let graph = job.json("/api/graph")?;
    if let Some(path) = &command.svg {
        let svg = job.text("/api/graph.svg")?;
        std::fs::write(path, svg).map_err(|error| Error::io(format!("--svg {}", path.display()), &error))?;
    }
    let text = match (command.json, &command.svg) {
        (true, _) => format!("{graph}\n"),
        (false, Some(_)) => return Ok(()),
        (false, None) => tree(&graph),
    };
    written(std::io::stdout().lock().write_all(text.as_bytes())).map(drop)
}

/// From the sources on, each node below what leads to it; one that several lead to is told once.
fn tree(graph: &Value) -> String {
    let over = graph["over"].as_f64().unwrap_or_default();
    let mut text = format!("{} workers, over {over:.1} s\n", graph["workers"]);
    let nodes: Vec<&Value> = graph["nodes"].as_array().into_iter().flatten().collect();
    let edges: Vec<&Value> = graph["edges"].as_array().into_iter().flatten().collect();
    let mut told = BTreeSet::new();
    let led_to = |id: &Value| edges.iter().any(|edge| edge["to"] == *id && edge["from"] != *id);
    // In a loop that nothing leads to, any is the first.
    let first = nodes.iter().filter(|node| !led_to(&node["id"])).chain(&nodes);
    for node in first {
        if !told.contains(&node["id"].as_u64()) {
            text.push('\n');
            below(&mut text, node, &nodes, &edges, &mut told);
        }
    }
    text
}

fn below(
    text: &mut String,
    from: &Value,
    nodes: &[&Value],
    edges: &[&Value],
    told: &mut BTreeSet<Option<u64>>,
) {
    // The node itself, then what it leads to, each with what stands before its line and before those below it.
    let mut stack = vec![(from, String::new(), String::new(), None)];
    while let Some((node, head, indent, rate)) = stack.pop() {
        let known = !told.insert(node["id"].as_u64());
        let _ = writeln!(text, "{head}{}{}", rate.unwrap_or_default(), about(node, known));
        if known {
            continue;
        }
        let mut leads: Vec<_> = edges.iter().filter(|edge| edge["from"] == node["id"]).collect();
        leads.reverse();
        for (index, edge) in leads.iter().enumerate() {
            let Some(to) = nodes.iter().find(|node| node["id"] == edge["to"]) else { continue };
            let (head, deeper) = if index == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let rate = edge["per_second"].as_f64().filter(|rate| *rate > 0.);
            let of = edge["of"].as_str().unwrap_or_default();
            let rate = rate.map(|rate| format!("{} {of}/s: ", short(rate)));
            stack.push((to, format!("{indent}{head}"), format!("{indent}{deeper}"), rate));
        }
    }
}

fn about(node: &Value, known: bool) -> String {
    let name = node["name"].as_str().unwrap_or_default();
    let kind = node["kind"].as_str().unwrap_or_default();
    let mut text = match kind {
        "derived" => name.to_owned(),
        kind => format!("{kind} {name}"),
    };
    if known {
        text.push_str(" (above)");
        return text;
    }
    let percent = node["busy"].as_f64().unwrap_or_default() * 100.;
    let mut facts = vec![node["state"].as_str().unwrap_or_default().to_owned()];
    if percent >= 0.05 {
        facts.push(format!("{percent:.1} %"));
    }
    if let Some(arranged) = node["arranged"].as_u64() {
        facts.push(format!("{} updates kept", short(arranged as f64)));
    }
    if let Some(waiting @ 1..) = node["waiting"].as_u64() {
        facts.push(format!("{waiting} batches wait"));
    }
    for (name, field) in [("lag", "lag"), ("inherited", "inherited_lag")] {
        if let Some(lag @ 1..) = node[field].as_u64() {
            facts.push(format!("{name} {}", span(lag)));
        }
    }
    let _ = write!(text, "  [{}]", facts.join(", "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_dataflow_is_a_tree_that_tells_each_part_once() {
        let node = |id: u64, kind: &str, name: &str, busy: f64| {
            json!({"id": id, "kind": kind, "name": name, "state": "moving", "busy": busy, "waiting": 0,
                   "lag": 0, "inherited_lag": 0, "arranged": null})
        };
        let edge = |from: u64, to: u64, rate: f64| json!({"from": from, "to": to, "per_second": rate, "of": "records"});
        let mut nodes = vec![
            node(1, "source", "telemetry", 0.1),
            node(2, "root", "vehicles", 0.31),
            node(3, "derived", "Map · Count", 0.),
            node(4, "view", "hot", 0.),
            node(5, "sink", "hot", 0.),
        ];
        (nodes[2]["arranged"], nodes[1]["lag"]) = (json!(70), json!(3));
        let edges = [
            edge(1, 2, 20.),
            edge(2, 3, 1_500.),
            edge(2, 4, 0.),
            edge(3, 4, 0.),
            edge(3, 3, 0.),
            edge(3, 5, 0.),
        ];
        let graph = json!({"workers": 2, "over": 0.5, "nodes": nodes, "edges": edges});
        let expected = "\
2 workers, over 0.5 s

source telemetry  [moving, 10.0 %]
└─ 20 records/s: root vehicles  [moving, 31.0 %, lag 3 ms]
   ├─ 1.5k records/s: Map · Count  [moving, 70 updates kept]
   │  ├─ view hot  [moving]
   │  ├─ Map · Count (above)
   │  └─ sink hot  [moving]
   └─ view hot (above)
";
        assert_eq!(tree(&graph), expected);
    }
}
