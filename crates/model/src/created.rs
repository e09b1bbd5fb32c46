//! `Created`: when an object was made, the last word where two objects want the same.

/// Seconds since 1970 of `metadata.creationTimestamp`. An object without one is younger than all that
/// have one; ties are broken by namespace and name, never by the time of reading.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Created(u64);

impl Created {
    /// No `creationTimestamp` was given.
    pub const UNKNOWN: Self = Self(u64::MAX);

    /// Made at this second.
    pub fn at(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The second, where it is known.
    pub fn seconds(self) -> Option<u64> {
        (self != Self::UNKNOWN).then_some(self.0)
    }
}

impl Default for Created {
    fn default() -> Self {
        Self::UNKNOWN
    }
}
