//! `kithd network --format dot`: the network for Graphviz, as in `kithd network --format dot | dot -Tsvg`.

use std::collections::BTreeSet;

use super::network::agreement;
use super::table::{short, span};
use crate::protocol::escape::escaped;
use crate::protocol::report::{NetworkReport, NodeRow, Status};

/// All of them, in the order of the legend.
const STATUSES: [Status; 4] = [Status::Up, Status::Suspect, Status::Down, Status::Left];

/// A directed graph: an arrow from each tail to its head, nodes known by their ids, with a shape and a colour for each
/// status (whoever sees no colours sees shapes), a bold frame around the node that tells this, and a legend.
pub fn draw(report: &NetworkReport) -> String {
    let nodes = report.nodes.iter().map(|row| node(row, &report.id));
    let edges = report.edges.iter().map(|edge| format!("  {} -> {};\n", quoted(&edge.tail), quoted(&edge.head)));
    let known: BTreeSet<&str> = report.nodes.iter().map(|node| node.id.as_str()).collect();
    let ends = report.edges.iter().flat_map(|edge| [edge.tail.as_str(), edge.head.as_str()]);
    let strangers: BTreeSet<&str> = ends.filter(|id| !known.contains(id)).collect();
    let strangers = strangers.into_iter().map(|id| format!("  {} [label={}];\n", quoted(id), quoted(short(id))));
    format!(
        "digraph kithd {{\n  graph [label={}, labelloc=b, fontname=sans];\n  \
         node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=sans];\n{}{}}}\n",
        quoted(&agreement(&report.agreement, &report.digest)),
        nodes.chain(strangers).chain(edges).collect::<String>(),
        legend()
    )
}

fn node(node: &NodeRow, teller: &str) -> String {
    let since = node.since_seconds.map_or_else(String::new, |seconds| format!(" for {}", span(seconds)));
    // The line breaks are Graphviz' own escapes and have to stay such.
    let label =
        format!("{}\\n{}\\n{}{since}", quotable(&node.label), quotable(&node.address.to_string()), node.status.name());
    let frame = if node.id == teller { ", penwidth=3" } else { "" };
    format!("  {} [label=\"{label}\", {}{frame}];\n", quoted(&node.id), look(node.status))
}

fn look(status: Status) -> &'static str {
    match status {
        Status::Up => "fillcolor=palegreen",
        Status::Suspect => "fillcolor=khaki, style=\"rounded,filled,dashed\"",
        Status::Down => "fillcolor=salmon, shape=octagon, style=filled",
        Status::Left => "fillcolor=lightgrey, shape=ellipse, style=\"filled,dotted\"",
    }
}

/// A frame of its own. No id has a colon, so none of its names is a node's.
fn legend() -> String {
    let mut text =
        "  subgraph cluster_legend {\n    label=legend;\n    fontsize=10;\n    node [fontsize=10];\n".to_owned();
    for status in STATUSES {
        let name = quoted(&format!("legend:{}", status.name()));
        text += &format!("    {name} [label={}, {}];\n", quoted(status.name()), look(status));
    }
    text + "    \"legend:up\" -> \"legend:suspect\" [label=dialled, fontsize=10];\n  }\n"
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
    use proptest::prelude::*;

    use super::*;
    use crate::cli::network::tests::report;

    #[test]
    fn a_graph_with_directions_colours_and_a_legend() {
        let mut report = report();
        report.nodes.truncate(3);
        report.edges.truncate(1);
        let long = |digit: &str| digit.repeat(64);
        let (alpha, beta, gamma, twin) = (long("1"), long("2"), long("3"), long("5"));
        let graph = draw(&report);
        let (nodes, legend) = graph.split_once("  subgraph cluster_legend {\n").unwrap();
        assert_eq!(
            nodes,
            format!(
                r#"digraph kithd {{
  graph [label="2 of 3 nodes agree on view 3f9a0c12, radius 1, for 3m12s (within 1.4 s)", labelloc=b, fontname=sans];
  node [shape=box, style="rounded,filled", fillcolor=white, fontname=sans];
  "{alpha}" [label="alpha\n127.0.0.1:7100\nup for 1.5 s", fillcolor=palegreen, penwidth=3];
  "{beta}" [label="beta\n127.0.0.1:7101\nsuspect for 2.5 s", fillcolor=khaki, style="rounded,filled,dashed"];
  "{gamma}" [label="gamma\n127.0.0.1:7102\ndown for 3.5 s", fillcolor=salmon, shape=octagon, style=filled];
  "{twin}" [label="55555555"];
  "{twin}" -> "{alpha}";
"#
            )
        );
        assert!(STATUSES.iter().all(|status| legend.contains(look(*status))), "{legend}");
        assert_eq!(parsed(&graph), Ok((4 + 4, 1 + 1)));
    }

    #[test]
    fn no_text_leaves_its_quotes() {
        assert_eq!(quoted("a\"]; evil [b\\"), r#""a\"]; evil [b\\""#);
        assert_eq!(quoted("line\n\u{202e}"), r#""line\\n\\u{202e}""#);
    }

    proptest! {
        #[test]
        fn whatever_nodes_call_themselves_the_graph_is_one(label in any::<String>(), id in any::<String>()) {
            let mut report = report();
            report.nodes[0].label = label;
            report.edges[0].tail = id;
            let edges = report.edges.len();
            prop_assert_eq!(parsed(&draw(&report)).map(|(_, arrows)| arrows), Ok(edges + 1));
        }
    }

    /// Reads a graph as the grammar of the DOT language has it (graphviz.org/doc/info/lang.html), and nothing that is not in
    /// it; how many statements name a node, and how many an edge.
    fn parsed(text: &str) -> Result<(usize, usize), String> {
        let words = words(text)?;
        let mut reader = Reader { words: &words, nodes: 0, edges: 0 };
        reader.expect("digraph")?;
        reader.name()?;
        reader.block()?;
        match reader.words {
            [] => Ok((reader.nodes, reader.edges)),
            rest => Err(format!("after the end: {rest:?}")),
        }
    }

    struct Reader<'a> {
        words: &'a [String],
        nodes: usize,
        edges: usize,
    }

    impl Reader<'_> {
        fn next(&mut self) -> Result<String, String> {
            let (first, rest) = self.words.split_first().ok_or("ends too early")?;
            self.words = rest;
            Ok(first.clone())
        }

        fn expect(&mut self, word: &str) -> Result<(), String> {
            let found = self.next()?;
            if found == word { Ok(()) } else { Err(format!("{found:?} in place of {word:?}")) }
        }

        fn is_next(&mut self, word: &str) -> bool {
            let is = self.words.first().is_some_and(|next| next == word);
            if is {
                self.words = &self.words[1..];
            }
            is
        }

        fn name(&mut self) -> Result<String, String> {
            let word = self.next()?;
            let plain = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let number = word.starts_with(|c: char| c.is_ascii_digit()) && word.bytes().all(|b| b.is_ascii_digit());
            let keyword = ["digraph", "graph", "node", "edge", "subgraph", "strict"].contains(&word.as_str());
            if (plain && !keyword) || number || word.starts_with('"') {
                Ok(word)
            } else {
                Err(format!("no name: {word:?}"))
            }
        }

        fn block(&mut self) -> Result<(), String> {
            self.expect("{")?;
            while !self.is_next("}") {
                if self.is_next("subgraph") {
                    self.name()?;
                    self.block()?;
                } else if ["graph", "node", "edge"].iter().any(|word| self.is_next(word)) {
                    self.attributes()?;
                    self.expect(";")?;
                } else {
                    self.statement()?;
                }
            }
            Ok(())
        }

        fn statement(&mut self) -> Result<(), String> {
            self.name()?;
            if self.is_next("=") {
                self.name()?;
                return self.expect(";");
            }
            if self.is_next("->") {
                self.name()?;
                self.edges += 1;
            } else {
                self.nodes += 1;
            }
            if self.words.first().is_some_and(|word| word == "[") {
                self.attributes()?;
            }
            self.expect(";")
        }

        fn attributes(&mut self) -> Result<(), String> {
            self.expect("[")?;
            loop {
                self.name()?;
                self.expect("=")?;
                self.name()?;
                if self.is_next("]") {
                    return Ok(());
                }
                self.expect(",")?;
            }
        }
    }

    /// Names, quoted texts and signs. Inside quotes every backslash has its second half.
    fn words(text: &str) -> Result<Vec<String>, String> {
        let mut words = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '"' => {
                    let mut inside = rest[1..].char_indices();
                    loop {
                        match inside.next().ok_or("an open quote")? {
                            (at, '"') => break at + 2,
                            (_, '\\') if inside.next().is_some_and(|(_, c)| "\\\"n".contains(c)) => {}
                            (_, '\\') => return Err("an odd escape".to_owned()),
                            (_, c) if c.is_control() => return Err("a control character".to_owned()),
                            _ => {}
                        }
                    }
                }
                '-' if rest.starts_with("->") => 2,
                '{' | '}' | '[' | ']' | '=' | ',' | ';' => 1,
                _ => rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len()),
            };
            if length == 0 {
                return Err(format!("no word: {rest:?}"));
            }
            words.push(rest[..length].to_owned());
            rest = rest[length..].trim_start();
        }
        Ok(words)
    }
}
