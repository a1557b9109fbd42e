//! How long the parts of a request take, without the host around them:
//! `cargo bench -p kubeagents-core --bench time`.
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod support;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_executor::block_on;
use futures_util::future::join_all;
use kubeagents_core::batch::Batcher;
use kubeagents_core::ports::{Clock, Entropy};
use kubeagents_core::store::MemoryStore;
use kubeagents_core::{
    AuthMode, Recorder, Report, ReportPolicy, Snapshot, StatusKind, Timestamp, Witness, Workspace,
    decide,
};

use support::server::settings;
use support::{KINDS, World};

/// Reports that wait together.
const TOGETHER: usize = 64;

/// A clock that stands still, and no randomness.
#[derive(Clone)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

impl Entropy for Still {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

fn recorder() -> Recorder<MemoryStore, Still, Still> {
    Recorder {
        store: MemoryStore::default(),
        clock: Still,
        entropy: Still,
        policy: ReportPolicy::new(&settings(AuthMode::Open)),
        witness: Witness::default(),
    }
}

fn report(number: usize) -> Report {
    Report {
        message: "x".repeat(60),
        content: "y".repeat(200),
        ..Report::new(format!("agent-{number}"), "topic", StatusKind::Running)
    }
}

fn decisions(criterion: &mut Criterion) {
    let now = Timestamp::UNIX_EPOCH;
    let report = report(0);
    let first = decide(&Workspace::Shared, &report, &Snapshot::default(), now, 60).unwrap();
    let snapshot = Snapshot::default().after(&first.commit);
    criterion.bench_function("decide", |bencher| {
        bencher.iter(|| decide(&Workspace::Shared, black_box(&report), &snapshot, now, 60));
    });
}

fn groups(criterion: &mut Criterion) {
    let batcher = Batcher::new(recorder());
    let reports: Vec<Report> = (0..TOGETHER).map(report).collect();
    criterion.bench_function("batch of 64 reports", |bencher| {
        bencher.iter_batched(
            || reports.clone(),
            |reports| {
                let enter = |report| batcher.enter(&Workspace::Shared, report).answer();
                let answers: Vec<_> = reports.into_iter().map(enter).collect();
                block_on(batcher.record_group());
                block_on(join_all(answers))
            },
            BatchSize::SmallInput,
        );
    });
}

fn requests(criterion: &mut Criterion) {
    let world = World::new();
    for kind in &KINDS {
        criterion.bench_function(kind.name, |bencher| {
            bencher.iter_batched(
                || world.request(kind),
                |request| world.answer(kind, request),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, decisions, groups, requests);
criterion_main!(benches);
