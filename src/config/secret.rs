//! Texts that nobody may see.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A password. It is in no debug output, and its memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Takes the text over; copies that the caller keeps are the caller's to clear.
    pub fn new(text: String) -> Self {
        Secret(text)
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Appends to a text that may become a password. Where it has to be moved to grow, nothing is left
/// behind.
pub(super) fn append(text: &mut Zeroizing<String>, more: &str) {
    let length = text.len() + more.len();
    if length > text.capacity() {
        let mut larger = Zeroizing::new(String::with_capacity(2 * length));
        larger.push_str(text);
        *text = larger;
    }
    text.push_str(more);
}
