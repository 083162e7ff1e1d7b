//! NumPy's `SeedSequence` (numpy/random/bit_generator.pyx, after O'Neill's `seed_seq_fe`): many independent
//! seeds out of one number and a path of spawn keys.

const INIT_A: u32 = 0x43b0_d7e5;
const MULT_A: u32 = 0x931e_8875;
const INIT_B: u32 = 0x8b51_f9dd;
const MULT_B: u32 = 0x58f3_8ded;
const MIX_LEFT: u32 = 0xca01_f9dd;
const MIX_RIGHT: u32 = 0x4973_f715;
const SHIFT: u32 = 16;

/// The first `N` words of `SeedSequence(entropy, spawn_key=.., pool_size=..).generate_state(N)`.
pub(super) fn generate_state<const N: usize>(
    entropy: u64,
    spawn_key: &[u64],
    pool_size: usize,
) -> [u32; N] {
    let mut words = words_of(entropy);
    if !spawn_key.is_empty() {
        // So that a spawn key is never mistaken for more entropy.
        words.resize(words.len().max(pool_size), 0);
        words.extend(spawn_key.iter().flat_map(|&key| words_of(key)));
    }
    let pool = mix_entropy(&words, pool_size);
    let mut constant = INIT_B;
    std::array::from_fn(|index| {
        let mut value = pool[index % pool.len()] ^ constant;
        constant = constant.wrapping_mul(MULT_B);
        value = value.wrapping_mul(constant);
        value ^ (value >> SHIFT)
    })
}

/// A number's 32-bit words, the lowest first; 0 is one word.
fn words_of(number: u64) -> Vec<u32> {
    let mut words = vec![number as u32];
    if number >> 32 != 0 {
        words.push((number >> 32) as u32);
    }
    words
}

fn mix_entropy(words: &[u32], pool_size: usize) -> Vec<u32> {
    let mut constant = INIT_A;
    let mut hash = |value: u32| {
        let mut value = value ^ constant;
        constant = constant.wrapping_mul(MULT_A);
        value = value.wrapping_mul(constant);
        value ^ (value >> SHIFT)
    };
    let mix = |x: u32, y: u32| {
        let result = MIX_LEFT
            .wrapping_mul(x)
            .wrapping_sub(MIX_RIGHT.wrapping_mul(y));
        result ^ (result >> SHIFT)
    };
    let mut pool: Vec<u32> = (0..pool_size)
        .map(|index| hash(words.get(index).copied().unwrap_or(0)))
        .collect();
    for source in 0..pool_size {
        for target in 0..pool_size {
            if source != target {
                pool[target] = mix(pool[target], hash(pool[source]));
            }
        }
    }
    for &word in words.iter().skip(pool_size) {
        for value in &mut pool {
            *value = mix(*value, hash(word));
        }
    }
    pool
}
