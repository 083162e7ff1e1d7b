//! The `tintype` command.

fn main() {}
