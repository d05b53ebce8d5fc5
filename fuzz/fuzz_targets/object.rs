//! An object that streams by, through windows of any length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::error::FormatError;
use tiroir_core::mac::Mac;
use tiroir_core::wire::msgpack::Reader;
use tiroir_core::wire::object::{ChunkRecord, ObjectHead, ObjectParser, ObjectStep};
use tiroir_fuzz::{Input, Noise, written};

/// Chunks, and the end: the MAC of the content, what is wrong, or nothing if
/// the object is cut short.
type Outcome = (Vec<ChunkRecord>, Option<Result<Mac, FormatError>>);

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut noise = Noise::new(input.u16().into());
    let object = input.0;
    let (chunks, end) = parse(object, || object.len());
    let (cut_chunks, cut_end) = parse(object, || noise.step());
    assert!(same(&chunks, &cut_chunks) && end == cut_end, "{end:?} {cut_end:?}");
    let _ = tiroir_fuzz::both_ways!(
        object,
        |bytes| ChunkRecord::parse(&mut Reader::new(bytes)),
        ChunkRecord::emit
    );
    let Some(Ok(content_mac)) = end else { return };
    let head = ObjectHead {
        content_mac,
        chunks: chunks.len().try_into().unwrap(),
        content_type: b"text/plain",
        entropy: 1.0,
    };
    let again = written(|w| {
        head.emit_start(w);
        chunks.iter().for_each(|chunk| chunk.emit(w));
        head.emit_end(w);
    });
    let (chunks_again, end_again) = parse(&again, || again.len());
    assert!(same(&chunks, &chunks_again) && end_again == Some(Ok(content_mac)));
});

/// Entropies may be no numbers.
fn same(a: &[ChunkRecord], b: &[ChunkRecord]) -> bool {
    let bits = |chunk: &ChunkRecord| (chunk.mac, chunk.length_bytes, chunk.entropy.to_bits());
    a.iter().map(bits).eq(b.iter().map(bits))
}

fn parse(object: &[u8], mut step: impl FnMut() -> usize) -> Outcome {
    let mut parser = ObjectParser::default();
    let (mut at, mut end, mut chunks) = (0, 0, Vec::new());
    loop {
        let (found, used) = match parser.step(&object[at..end]) {
            Ok(found) => found,
            Err(error) => return (chunks, Some(Err(error))),
        };
        at += used;
        match found {
            ObjectStep::Chunk(chunk) => {
                assert!(used > 0, "a chunk out of nothing");
                chunks.push(chunk);
            }
            ObjectStep::End { content_mac } => return (chunks, Some(Ok(content_mac))),
            ObjectStep::More if end < object.len() => {
                end = object.len().min(end + step().max(1));
            }
            ObjectStep::More if used == 0 => return (chunks, None),
            ObjectStep::More => {}
        }
    }
}
