//! Allocations of a request of each kind, without the host around it:
//! `cargo bench -p kubeagents-core --bench counts`.
//!
//! With the name of a kind and a number it sends so many requests, for `instructions.sh`.
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "it reads its own arguments")]

mod support;

use support::{KINDS, Kind, World};

/// Requests over which the count is averaged.
const REQUESTS: usize = 100;

fn send(world: &World, kind: &Kind, number: usize) {
    let requests: Vec<_> = (0..number).map(|_| world.request(kind)).collect();
    for request in requests {
        world.answer(kind, request);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let world = World::new();
    if let [name, number] = &arguments[..] {
        let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
        return send(&world, kind, number.parse().unwrap());
    }
    println!("{:16} {:>11} {:>11}", "request", "allocations", "bytes");
    for kind in &KINDS {
        send(&world, kind, REQUESTS);
        let requests: Vec<_> = (0..REQUESTS).map(|_| world.request(kind)).collect();
        let counted = allocation_counter::measure(|| {
            for request in requests {
                world.answer(kind, request);
            }
        });
        let each = |total: u64| total / REQUESTS as u64;
        let (count, bytes) = (each(counted.count_total), each(counted.bytes_total));
        println!("{:16} {count:>11} {bytes:>11}", kind.name);
    }
}
