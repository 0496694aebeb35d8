#![doc = include_str!("wire.md")]
