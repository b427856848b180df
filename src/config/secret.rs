//! Texts that must stay secret.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A password. Debug output does not contain it, and its memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Takes ownership of the text. The caller must clear its own copies.
    pub fn new(text: String) -> Self {
        Secret(text)
    }

    /// Returns the text.
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

/// Appends to a text that may become a password. If the text has to move to grow, its old memory is
/// cleared.
pub(super) fn append(text: &mut Zeroizing<String>, more: &str) {
    let length = text.len() + more.len();
    if length > text.capacity() {
        let mut larger = Zeroizing::new(String::with_capacity(2 * length));
        larger.push_str(text);
        *text = larger;
    }
    text.push_str(more);
}
