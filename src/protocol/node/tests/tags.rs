//! What a node's user says about it reaches the others.

use super::*;
use crate::protocol::tags::Tags;

fn said(node: &Node) -> BTreeMap<String, String> {
    node.view().get(&node.id()).expect("itself").record().tags()
}

fn tags(text: &str) -> Tags {
    [("role".to_owned(), text.to_owned())].into()
}

#[test]
fn new_tags_are_published_at_once_three_times_and_then_once_a_second() {
    let mut node = node(1);
    node.handle(at(5000), Input::Discovery, &mut Vec::new());
    let version = |node: &Node| node.view().get(&ME).map(|entry| entry.record().body.version);
    node.handle(at(5000), Input::Tags(tags("db")), &mut Vec::new());
    assert!(node.discovery_due().is_some_and(|due| due <= at(5000).mono));
    node.handle(at(5000), Input::Discovery, &mut Vec::new());
    assert_eq!(said(&node), tags("db"));
    for (ms, role) in [(5001, "cache"), (5002, "queue")] {
        node.handle(at(ms), Input::Tags(tags(role)), &mut Vec::new());
        node.handle(at(ms), Input::Discovery, &mut Vec::new());
        assert_eq!(said(&node), tags(role));
    }
    let before = version(&node);
    node.handle(at(5003), Input::Tags(tags("web")), &mut Vec::new());
    node.handle(at(5999), Input::Discovery, &mut Vec::new());
    assert_eq!((version(&node), said(&node)), (before, tags("queue")), "it waits for its turn");
    node.handle(at(6000), Input::Discovery, &mut Vec::new());
    assert_eq!((node.tags(), said(&node)), (&tags("web"), tags("web")));

    let before = version(&node);
    node.handle(at(12_000), Input::Tags(tags("web")), &mut Vec::new());
    node.handle(at(12_000), Input::Discovery, &mut Vec::new());
    assert_eq!(version(&node), before, "nothing new, no record");
}

#[test]
fn a_node_that_has_left_says_no_more() {
    let mut node = node(1);
    node.handle(at(5000), Input::Leave, &mut Vec::new());
    node.handle(at(12_000), Input::Tags(tags("db")), &mut Vec::new());
    node.handle(at(12_000), Input::Discovery, &mut Vec::new());
    assert_eq!(said(&node), Tags::new());
}
