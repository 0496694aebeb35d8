//! `kithd network --format dot`: the network for Graphviz, as in `kithd network --format dot | dot -Tsvg`.

use super::table::short;
use crate::protocol::escape::escaped;
use crate::protocol::report::{NetworkReport, NodeRow, Status};

/// A directed graph: an arrow from each tail to its head, nodes filled by status and known by their ids.
pub fn draw(report: &NetworkReport) -> String {
    let nodes = report.nodes.iter().map(node);
    let edges = report.edges.iter().map(|edge| format!("  {} -> {};\n", quoted(&edge.tail), quoted(&edge.head)));
    let strangers = report
        .edges
        .iter()
        .flat_map(|edge| [&edge.tail, &edge.head])
        .filter(|id| report.nodes.iter().all(|node| node.id != **id))
        .collect::<std::collections::BTreeSet<_>>();
    let strangers = strangers.into_iter().map(|id| format!("  {} [label={}];\n", quoted(id), quoted(short(id))));
    format!(
        "digraph kithd {{\n  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=sans];\n{}}}\n",
        nodes.chain(strangers).chain(edges).collect::<String>()
    )
}

fn node(node: &NodeRow) -> String {
    let fill = match node.status {
        Status::Up => "palegreen",
        Status::Suspect => "khaki",
        Status::Down => "salmon",
        Status::Left => "lightgrey",
    };
    // The line break is Graphviz' own escape and has to stay one.
    let label = format!("{}\\n{}", quotable(&node.label), quotable(&node.address.to_string()));
    format!("  {} [label=\"{label}\", fillcolor={fill}];\n", quoted(&node.id))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", quotable(text))
}

/// Inside quotes only a quote ends the text; a backslash would begin an escape of the label's own language.
fn quotable(text: &str) -> String {
    escaped(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::network::tests::report;

    #[test]
    fn a_graph_with_directions_and_colours() {
        let mut report = report();
        report.nodes.truncate(3);
        report.edges.truncate(1);
        let long = |digit: &str| digit.repeat(64);
        let (alpha, beta, gamma, twin) = (long("1"), long("2"), long("3"), long("5"));
        assert_eq!(
            draw(&report),
            format!(
                r#"digraph kithd {{
  node [shape=box, style="rounded,filled", fillcolor=white, fontname=sans];
  "{alpha}" [label="alpha\n127.0.0.1:7100", fillcolor=palegreen];
  "{beta}" [label="beta\n127.0.0.1:7101", fillcolor=khaki];
  "{gamma}" [label="gamma\n127.0.0.1:7102", fillcolor=salmon];
  "{twin}" [label="55555555"];
  "{twin}" -> "{alpha}";
}}
"#
            )
        );
    }

    #[test]
    fn no_text_leaves_its_quotes() {
        assert_eq!(quoted("a\"]; evil [b\\"), r#""a\"]; evil [b\\""#);
        assert_eq!(quoted("line\n\u{202e}"), r#""line\\n\\u{202e}""#);
    }
}
