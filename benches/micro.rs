//! How long the pieces of the hot path take: `cargo bench --bench micro`, or with a part of a name
//! behind `--` only those. `cargo test --benches` runs each once, which takes a second.

mod cases;
mod timing;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn measure(criterion: &mut Criterion) {
    for case in cases::all() {
        let (subject, variant) = case.name.split_once('/').unwrap_or((&case.name, ""));
        let mut group = criterion.benchmark_group(subject);
        group.throughput(match case.bytes {
            Some(bytes) if bytes / case.operations >= BYTES_TELL => Throughput::Bytes(bytes),
            _ => Throughput::Elements(case.operations),
        });
        group.bench_function(variant, |bencher| {
            bencher.iter_batched_ref(|| case.prepare(), |run| run(), BatchSize::LargeInput);
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = timing::configuration();
    targets = measure
}
criterion_main!(benches);

/// From this size of an operation on its bytes per second tell more than its number per second.
const BYTES_TELL: u64 = 1024;
