//! `kithd network`: the whole network as this node knows it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::client_args::{self, Failure};
use super::table::{Align, Cell, Colour, Table, short, span, width};
use super::{census, dot, terminal};
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::report::{AgreementReport, EdgeRow, NetworkReport, NodeRow, Status};

/// Of a list of witnesses, a table's line names so many.
const WITNESSES_NAMED: usize = 3;

/// The verb's arguments.
pub fn command() -> Command {
    let about = "Show the network as this node knows it: exit 1 if a known node is down, an expected one is not here, \
                 or not all agree when asked";
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let census = flag("census").help("Ask every node which view it holds, and count the answers");
    let prove = flag("prove").help("The same, signed by each node; with --format json others can check it");
    let check = Arg::new("check").long("check").value_name("FILE").value_parser(value_parser!(PathBuf));
    let check = check.conflicts_with_all(["census", "prove"]).help("Check a proof in a file, without asking a node");
    client_args::add(Command::new("network").about(about).args([census, prove, check]), &["table", "json", "dot"])
}

/// Asks, prints and judges.
pub fn run(matches: &ArgMatches) -> ExitCode {
    client_args::conclude(judge(matches))
}

/// Nodes, edges and agreement, for `kithd network` and the live picture of `kithd demo`.
pub fn draw(report: &NetworkReport, colour: bool) -> String {
    let names = Names::of(&report.nodes);
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("ID", Align::Left),
        ("STATUS", Align::Left),
        ("SINCE", Align::Right),
        ("ADDRESS", Align::Left),
        ("VERSION", Align::Right),
        ("OUT", Align::Right),
        ("IN", Align::Right),
        ("ABOUT", Align::Left),
    ]);
    for node in &report.nodes {
        let (word, hue) = status(node.status);
        table.row([
            (&node.label).into(),
            short(&node.id).into(),
            Cell::painted(word, hue),
            node.since_seconds.map_or_else(|| "-".to_owned(), span).into(),
            node.address.to_string().into(),
            node.version.to_string().into(),
            node.edges_out.to_string().into(),
            node.edges_in.to_string().into(),
            about(node, &report.id, &names).into(),
        ]);
    }
    let agreement = agreement(&report.agreement, &report.digest);
    let counted = report.census.as_ref().map(|census| census::draw(census, |id| names.get(id))).unwrap_or_default();
    let missing = match report.expected_missing.join(", ") {
        none if none.is_empty() => none,
        missing => format!("expected and not here: {}\n", escaped(&missing)),
    };
    format!("{}\n{}\n{agreement}\n{missing}{counted}", table.draw(colour), edges(&report.edges, &names))
}

/// Who agrees, on what, how widely, for how long and how freshly, in a sentence.
pub fn agreement(report: &AgreementReport, digest: &str) -> String {
    format!(
        "{} of {} nodes agree on view {}, radius {}, for {} (within {})",
        report.agreeing,
        report.live,
        escaped(short(digest)),
        report.radius,
        span(report.held_seconds),
        span(report.age_seconds)
    )
}

fn judge(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    if let Some(file) = matches.get_one::<PathBuf>("check") {
        return census::check(file);
    }
    let verb = Verb::Network { census: matches.get_flag("census"), prove: matches.get_flag("prove") };
    let report: NetworkReport = client_args::show(matches, &verb, |report| match client_args::format(matches) {
        "dot" => dot::draw(report),
        _ => draw(report, terminal::colourful()),
    })?;
    let down = report.nodes.iter().any(|node| node.status == Status::Down);
    let divided = report.census.is_some_and(|census| !census.unanimous);
    let sound = !down && !divided && report.expected_missing.is_empty();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn status(status: Status) -> (&'static str, Colour) {
    match status {
        Status::Up => ("up", Colour::Green),
        Status::Suspect => ("suspect", Colour::Yellow),
        Status::Down => ("down", Colour::Red),
        Status::Left => ("left", Colour::Grey),
    }
}

fn about(node: &NodeRow, teller: &str, names: &Names) -> String {
    let mut words = Vec::new();
    if node.id == teller {
        words.push("this node".to_owned());
    } else if node.reachable == Some(false) {
        words.push("never reached".to_owned());
    }
    if node.expected {
        words.push("expected".to_owned());
    }
    let mut accusers: Vec<&String> = node.witnesses.iter().chain(&node.suspected_by).collect();
    accusers.sort();
    accusers.dedup();
    accusers.sort_by_key(|id| names.place(id));
    if !accusers.is_empty() {
        let named: Vec<&str> = accusers.iter().take(WITNESSES_NAMED).map(|id| names.get(id)).collect();
        let more = match accusers.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        words.push(format!("missed by {}{more}", named.join(", ")));
    }
    let tags: Vec<String> = node.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !tags.is_empty() {
        words.push(tags.join(" "));
    }
    words.join("; ")
}

/// `tail → head, head`, a line a tail, in the order of the nodes.
fn edges(edges: &[EdgeRow], names: &Names) -> String {
    let mut by_tail: BTreeMap<(usize, &str), Vec<&str>> = BTreeMap::new();
    for edge in edges {
        by_tail.entry((names.place(&edge.tail), names.get(&edge.tail))).or_default().push(&edge.head);
    }
    let wide = by_tail.keys().map(|(_, tail)| width(tail)).max().unwrap_or(0);
    let lines = by_tail.iter_mut().map(|((_, tail), heads)| {
        heads.sort_by_key(|head| names.place(head));
        let heads: Vec<&str> = heads.iter().map(|head| names.get(head)).collect();
        format!("{tail:wide$} → {}\n", heads.join(", "))
    });
    match edges {
        [] => "no edges\n".to_owned(),
        _ => lines.collect(),
    }
}

/// What to call a node in a list: its label, with its id where two share it, or the id alone if it is not known.
struct Names<'a>(BTreeMap<&'a str, (usize, String)>);

impl<'a> Names<'a> {
    fn of(nodes: &'a [NodeRow]) -> Self {
        let mut bearers: BTreeMap<&str, usize> = BTreeMap::new();
        for node in nodes {
            *bearers.entry(&node.label).or_default() += 1;
        }
        let name = |node: &NodeRow| match bearers.get(node.label.as_str()) {
            Some(1) => escaped(&node.label).into_owned(),
            _ => escaped(&format!("{} ({})", node.label, short(&node.id))).into_owned(),
        };
        Self(nodes.iter().enumerate().map(|(place, node)| (node.id.as_str(), (place, name(node)))).collect())
    }

    fn get<'b>(&'b self, id: &'b str) -> &'b str {
        self.0.get(id).map_or_else(|| short(id), |(_, name)| name)
    }

    fn place(&self, id: &str) -> usize {
        self.0.get(id).map_or(usize::MAX, |(place, _)| *place)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::report::SCHEMA;

    /// The id of a test's node: one digit, 64 times.
    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    /// Two nodes that are up, one that is missed, one that is down, one that left, and edges between them.
    pub(in crate::cli) fn report() -> NetworkReport {
        let node = |label: &str, digit, port, status, witnesses: &[char]| NodeRow {
            id: id(digit),
            label: label.to_owned(),
            address: ([127, 0, 0, 1], port).into(),
            tags: BTreeMap::new(),
            status,
            version: 3,
            reachable: Some(true),
            edges_out: 1,
            edges_in: 0,
            witnesses: witnesses.iter().copied().filter(|_| status == Status::Down).map(id).collect(),
            suspected_by: witnesses.iter().copied().filter(|_| status == Status::Suspect).map(id).collect(),
            since: None,
            since_seconds: Some(f64::from(port) - 7098.5),
            expected: false,
        };
        let edge = |tail, head| EdgeRow { tail: id(tail), head: id(head) };
        let mut nodes = vec![
            node("alpha", '1', 7100, Status::Up, &[]),
            node("beta", '2', 7101, Status::Suspect, &['1']),
            node("gamma", '3', 7102, Status::Down, &['1', '2', '5', '9']),
            node("twin", '4', 7103, Status::Left, &[]),
            node("twin", '5', 7104, Status::Up, &[]),
        ];
        nodes[4].reachable = Some(false);
        nodes[4].since_seconds = None;
        nodes[2].expected = true;
        nodes[4].tags = [("rack".to_owned(), "a \"b\" \u{202e}\n".to_owned())].into();
        NetworkReport {
            schema: SCHEMA,
            id: id('1'),
            digest: "3f9a0c12".repeat(8),
            agreement: AgreementReport {
                agreeing: 2,
                live: 3,
                unanimous: false,
                radius: 1,
                age_seconds: 1.41,
                since: "2026-11-21T09:23:05.042Z".to_owned(),
                held_seconds: 192.4,
            },
            nodes,
            edges: vec![edge('5', '1'), edge('2', '5'), edge('2', '1'), edge('1', '2'), edge('9', '1')],
            expected_missing: vec!["gamma".to_owned(), "db\u{1b}".to_owned()],
            census: None,
        }
    }

    #[test]
    fn the_picture_tells_nodes_edges_and_agreement() {
        assert_eq!(
            draw(&report(), false),
            "\
NODE   ID        STATUS   SINCE  ADDRESS         VERSION  OUT  IN  ABOUT
alpha  11111111  up       1.5 s  127.0.0.1:7100        3    1   0  this node
beta   22222222  suspect  2.5 s  127.0.0.1:7101        3    1   0  missed by alpha
gamma  33333333  down     3.5 s  127.0.0.1:7102        3    1   0  expected; missed by alpha, beta, twin (55555555) and 1 more
twin   44444444  left     4.5 s  127.0.0.1:7103        3    1   0
twin   55555555  up           -  127.0.0.1:7104        3    1   0  never reached; rack=a \"b\" \\u{202e}\\n

alpha           → beta
beta            → alpha, twin (55555555)
twin (55555555) → alpha
99999999        → alpha

2 of 3 nodes agree on view 3f9a0c12, radius 1, for 3m12s (within 1.4 s)
expected and not here: gamma, db\\u{1b}
"
        );
    }

    #[test]
    fn colour_marks_the_status_and_nothing_else() {
        let plain = draw(&report(), false);
        let bright = draw(&report(), true);
        assert!(bright.contains("\u{1b}[1;31mdown\u{1b}[0m     3.5 s"));
        let bare = ["\u{1b}[32m", "\u{1b}[33m", "\u{1b}[1;31m", "\u{1b}[2m", "\u{1b}[0m"];
        assert_eq!(bare.iter().fold(bright, |text, code| text.replace(code, "")), plain);
    }

    #[test]
    fn a_node_alone_has_no_edges() {
        let report = NetworkReport { edges: Vec::new(), ..report() };
        assert!(draw(&report, false).contains("\n\nno edges\n\n2 of 3"));
    }
}
