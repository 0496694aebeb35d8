//! A node with a service in Rust: `cargo run --example sum -- alpha.toml`.

use std::path::PathBuf;

use kithd::{Config, Node, Request, Response};

fn sum(request: Request) -> Response {
    let text = String::from_utf8_lossy(&request.payload);
    match text.split_whitespace().map(str::parse::<i64>).sum::<Result<i64, _>>() {
        Ok(sum) => format!("{sum}\n").into(),
        Err(error) => Response::failed(format!("{text:?} are not all numbers: {error}")),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let config = Config::load(file.as_deref(), &Default::default())?.config;
    let node = Node::start(config)?;
    node.handle("sum", sum)?;
    node.wait(); // until `kithd leave`
    node.shutdown();
    Ok(())
}
