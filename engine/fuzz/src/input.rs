//! Bytes as choices: what drives a state machine. When they are used up, every choice is 0.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `len` bytes, or those that are left.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next bytes, their number first: in one byte.
    pub(crate) fn chunk(&mut self) -> &'a [u8] {
        let len = self.byte();
        self.take(len.into())
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.take(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `bound`, which is at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// One of these.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number that is often one of those that mean something: small, a power of two, or near the largest.
    pub(crate) fn number(&mut self) -> u32 {
        match self.byte() {
            small @ 0..64 => small.into(),
            log @ 64..96 => 1 << (log - 64),
            log @ 96..128 => (1u32 << (log - 96)).wrapping_sub(1),
            from_end @ 128..144 => u32::MAX - u32::from(from_end - 128),
            _ => self.u32(),
        }
    }
}
