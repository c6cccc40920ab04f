//! What compression costs, by library and level: the figures of `results/compression-library.md`.
//! `cargo bench --bench compression` prints them, and the compressed sizes first.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use mimalloc::MiMalloc;
use ringwire::wire::deflate::{Deflater, Inflater};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A name and a message.
type Payload = (&'static str, Vec<u8>);

fn payloads() -> [Payload; 3] {
    let readings = (0_u64..).flat_map(|number| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = ["ok", "ok", "late", "failed"][(mixed >> 60) as usize % 4];
        let text = format!(
            "{{\"sensor\":\"unit-{:03}\",\"site\":{},\"time\":17{:09},\"value\":{}.{:03},\
             \"state\":\"{state}\"}},",
            mixed >> 55,
            mixed >> 52 & 15,
            mixed >> 20 & 0x1fff_ffff,
            mixed >> 8 & 255,
            mixed & 511
        );
        text.into_bytes()
    });
    let words: Vec<&str> = include_str!("../README.md").split_whitespace().collect();
    let text = (0_usize..).flat_map(|number| {
        let place = number.wrapping_mul(0x9e37_79b9) >> 7;
        [words[place % words.len()].as_bytes(), b" "].concat()
    });
    [
        ("20B-text", b"a message of 20 B...".to_vec()),
        ("1KiB-json", readings.take(1 << 10).collect()),
        ("64KiB-text", text.take(64 << 10).collect()),
    ]
}

fn deflated(level: u8, message: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    Deflater::new(level, 15).message(message, &mut packed);
    packed
}

fn compress(criterion: &mut Criterion) {
    for (name, message) in payloads() {
        let mut group = criterion.benchmark_group(format!("compress/{name}"));
        group.throughput(Throughput::Bytes(message.len() as u64));
        for level in [1, 2, 3, 6, 9] {
            println!("{name}: zlib-rs level {level}: {} bytes", deflated(level, &message).len());
            let (mut deflater, mut out) = (Deflater::new(level, 15), Vec::new());
            group.bench_function(BenchmarkId::new("zlib-rs", level), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    deflater.message(black_box(&message), &mut out);
                    deflater.reset();
                });
            });
            let level = CompressionLvl::new(level.into()).expect("in range");
            let mut compressor = Compressor::new(level);
            let mut out = vec![0; compressor.deflate_compress_bound(message.len())];
            let bytes = compressor.deflate_compress(&message, &mut out).expect("room");
            println!("{name}: libdeflate {level:?}: {bytes} bytes");
            group.bench_function(BenchmarkId::new("libdeflate", format!("{level:?}")), |bencher| {
                bencher.iter(|| compressor.deflate_compress(black_box(&message), &mut out));
            });
        }
        let (mut deflater, mut out) = (Deflater::new(1, 15), Vec::new());
        group.bench_function(BenchmarkId::new("zlib-rs in context", 1), |bencher| {
            bencher.iter(|| {
                out.clear();
                deflater.message(black_box(&message), &mut out);
            });
        });
        group.finish();
    }
}

fn inflate(criterion: &mut Criterion) {
    for (name, message) in payloads() {
        let packed = deflated(6, &message);
        let mut group = criterion.benchmark_group(format!("inflate/{name}"));
        group.throughput(Throughput::Bytes(message.len() as u64));
        let (mut inflater, mut out) = (Inflater::default(), Vec::new());
        group.bench_function("zlib-rs", |bencher| {
            bencher.iter(|| {
                out.clear();
                let result = inflater.lone_message(black_box(&packed), message.len(), &mut out);
                assert!(result.is_ok());
            });
        });
        // An empty stored block with its tail, and a final one: libdeflate reads whole streams.
        let whole = [&packed[..], &[0, 0, 0xff, 0xff, 3, 0]].concat();
        let (mut decompressor, mut out) = (Decompressor::new(), vec![0; message.len()]);
        group.bench_function("libdeflate", |bencher| {
            bencher.iter(|| {
                let result = decompressor.deflate_decompress(black_box(&whole), &mut out);
                assert_eq!(result, Ok(message.len()));
            });
        });
        group.finish();
    }
}

fn configuration() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
}

criterion_group! {
    name = benches;
    config = configuration();
    targets = compress, inflate
}
criterion_main!(benches);
