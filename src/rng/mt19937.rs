//! MT19937, the Mersenne Twister (Matsumoto and Nishimura 1998), under torch's and NumPy's generators.

const STATE: usize = 624;
const SHIFT: usize = 397;

/// The generator, seeded as torch and NumPy seed it: with the low 32 bits of the seed.
#[derive(Clone)]
pub(super) struct Mt19937 {
    state: [u32; STATE],
    next: usize,
}

impl Mt19937 {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = [0_u32; STATE];
        state[0] = seed as u32;
        for index in 1..STATE {
            let previous = state[index - 1];
            state[index] = 1_812_433_253_u32
                .wrapping_mul(previous ^ (previous >> 30))
                .wrapping_add(index as u32);
        }
        Self { state, next: STATE }
    }

    fn refill(&mut self) {
        for index in 0..STATE {
            let mixed =
                (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % STATE] & 0x7fff_ffff);
            let twist = if mixed & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[index] = self.state[(index + SHIFT) % STATE] ^ (mixed >> 1) ^ twist;
        }
        self.next = 0;
    }

    pub(super) fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}
