//! Parameters of key derivations: what passes is within the bounds, and derives
//! the same key from dirty memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::crypto::kdf::{
    ARGON2_WORK_KIB_MAX, Argon2Block, Kdf, KdfError, PBKDF2_ITERATIONS_MAX,
    SCRYPT_MEMORY_BYTES_MAX, SCRYPT_WORK_MAX,
};
use tiroir_fuzz::{Input, memory};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let kind = input.byte();
    // Small numbers half of the time, so that keys are derived as well.
    let mask = if kind & 4 == 0 { 0x3f } else { u64::MAX };
    let kdf = match kind % 3 {
        0 => Kdf::Argon2id {
            time: input.u32() & mask as u32,
            memory_kib: input.u32() & mask as u32,
            threads: input.byte() & mask as u8,
        },
        1 => Kdf::Scrypt {
            n: input.u64() & mask,
            r: input.u32() & mask as u32,
            p: input.u32() & mask as u32,
        },
        _ => Kdf::Pbkdf2 { iterations: input.u32() & mask as u32 },
    };
    let (salt, passphrase) = (input.short(), input.0);
    let (work, limit, small) = match kdf {
        Kdf::Argon2id { time, memory_kib, .. } => {
            (u64::from(time).saturating_mul(memory_kib.into()), ARGON2_WORK_KIB_MAX, 128)
        }
        Kdf::Scrypt { n, r, p } => {
            (n.saturating_mul(r.into()).saturating_mul(p.into()), SCRYPT_WORK_MAX, 256)
        }
        Kdf::Pbkdf2 { iterations } => (iterations.into(), PBKDF2_ITERATIONS_MAX.into(), 64),
    };
    if kdf.check().is_err() {
        assert!(kdf.derive_with_arena(passphrase, salt, &mut []).is_err());
        return;
    }
    assert!(work <= limit);
    assert!(kdf.arena_blocks() as u64 * 1024 <= kdf.memory_bytes());
    if matches!(kdf, Kdf::Scrypt { .. }) {
        assert!(kdf.memory_bytes() <= SCRYPT_MEMORY_BYTES_MAX);
    }
    if kdf.arena_blocks() > 0 && salt.len() >= 8 {
        let short = kdf.derive_with_arena(passphrase, salt, &mut []);
        assert!(matches!(short, Err(KdfError::Arena { .. })));
    }
    if work > small {
        return;
    }
    let blocks = kdf.arena_blocks();
    let mut arena = vec![Argon2Block::new(); blocks + 1];
    let allowed = usize::try_from(kdf.memory_bytes()).unwrap();
    let derive = |arena: &mut Vec<Argon2Block>| {
        memory::within(2 * allowed + 16_384, || kdf.derive_with_arena(passphrase, salt, arena))
            .map(|key| *key.as_bytes())
    };
    let first = derive(&mut arena);
    let is_clean = |block: &Argon2Block| block.as_ref().iter().all(|word| *word == 0);
    assert!(arena.iter().all(is_clean), "the key could be had from what is left");
    arena.iter_mut().for_each(|block| block.as_mut().fill(0x5555));
    assert_eq!(first, derive(&mut arena));
});
