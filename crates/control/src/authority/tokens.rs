//! Join tokens: one for each proxy that starts, bound to an identity, good for one certificate and one stream.
//!
//! Only digests are kept, also on disk: a control plane that was killed still knows the tokens it minted, and
//! whoever reads its state cannot use them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lateen_model::Identity;
use lateen_runtime::clock::Clock;
use serde::{Deserialize, Serialize};

use crate::store::{self, Store};

const NAME: &str = "tokens.json";
const LOSS: &str = "proxies that are just starting have to be started again";
/// More than a machine starts at once; each costs some 200 bytes.
const MOST: usize = 10_000;
/// A token that is not used within this time is worth nothing.
const LIFETIME: Duration = Duration::from_secs(300);
/// `ltn_<id>_<secret>`: recognisable when it turns up where it should not.
const PREFIX: &str = "ltn_";

/// Why a token is refused. The caller learns no more than this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Nobody minted it, or long ago.
    #[error(
        "the join token is not known or has expired; was the proxy started more than 5 minutes after it was made?"
    )]
    Unknown,
    /// It did its work.
    #[error("the join token has been used; a proxy needs one of its own")]
    Used,
}

/// What a token is shown for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use<'a> {
    /// A certificate for this public key (DER). The same key may ask again: its answer may have been lost.
    Certificate(&'a [u8]),
    /// One stream of resources, until the certificate is there.
    Stream,
}

/// A minted token.
#[derive(Clone)]
pub struct Minted {
    /// The token itself: to be handed to the proxy and to nobody else.
    pub token: String,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
}

/// All tokens that may still be used.
#[derive(Debug)]
pub struct Tokens {
    store: Arc<Store>,
    clock: Clock,
    tokens: Mutex<BTreeMap<String, Token>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    /// Of the secret part, base64.
    digest: String,
    identity: String,
    expires: u64,
    streamed: bool,
    /// Digest of the public key it was used for.
    certified: Option<String>,
}

/// There are too many.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody mints without end.
    #[error("mint a join token: {MOST} are waiting to be used")]
    TooMany,
    /// The machine has no dice.
    #[error("mint a join token: the machine gives no random bytes")]
    NoRandom,
    /// It could not be remembered.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Tokens {
    /// The tokens that an earlier run minted.
    ///
    /// # Errors
    /// When their file cannot be read.
    pub fn load(store: Arc<Store>, clock: Clock) -> Result<Self, store::Error> {
        let tokens = store.read(NAME, 1, LOSS)?.unwrap_or_default();
        Ok(Self { store, clock, tokens: Mutex::new(tokens) })
    }

    /// A new token for this identity.
    ///
    /// # Errors
    /// When there are too many, or it cannot be written down.
    pub fn mint(&self, identity: &Identity) -> Result<Minted, Error> {
        let (mut id, mut secret) = ([0; 9], [0; 32]);
        rand::fill(&mut id).and_then(|()| rand::fill(&mut secret)).map_err(|_| Error::NoRandom)?;
        let (id, secret) = (URL_SAFE_NO_PAD.encode(id).replace('_', "."), URL_SAFE_NO_PAD.encode(secret));
        let expires = self.clock.unix_seconds() + LIFETIME.as_secs();
        let token = Token {
            digest: fingerprint(secret.as_bytes()),
            identity: identity.to_string(),
            expires,
            streamed: false,
            certified: None,
        };
        let mut tokens = self.lock();
        self.forget_expired(&mut tokens);
        if tokens.len() >= MOST {
            return Err(Error::TooMany);
        }
        tokens.insert(id.clone(), token);
        self.store.write(NAME, 1, &*tokens)?;
        Ok(Minted { token: format!("{PREFIX}{id}_{secret}"), expires })
    }

    /// Who shows this token; takes note of what it was used for.
    ///
    /// # Errors
    /// When it is not (or no longer) good for that.
    pub fn redeem(&self, text: &str, wish: Use<'_>) -> Result<Identity, Refused> {
        let (id, secret) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(Refused::Unknown)?;
        let mut tokens = self.lock();
        self.forget_expired(&mut tokens);
        // The identifier is no secret, the rest is compared in constant time.
        let token = tokens.get_mut(id).ok_or(Refused::Unknown)?;
        let shown = fingerprint(secret.as_bytes());
        constant_time::verify_slices_are_equal(shown.as_bytes(), token.digest.as_bytes())
            .map_err(|_| Refused::Unknown)?;
        let identity = Identity::parse(&token.identity).map_err(|_| Refused::Unknown)?;
        match wish {
            Use::Stream if token.streamed => return Err(Refused::Used),
            Use::Stream => token.streamed = true,
            Use::Certificate(key) => {
                let key = fingerprint(key);
                if token.certified.as_ref().is_some_and(|earlier| *earlier != key) {
                    return Err(Refused::Used);
                }
                token.certified = Some(key);
            }
        }
        if let Err(error) = self.store.write(NAME, 1, &*tokens) {
            // Whoever kills us now can use it once more: better than a proxy that cannot start.
            tracing::warn!(%error, "the use of a join token is not written down");
        }
        Ok(identity)
    }

    fn forget_expired(&self, tokens: &mut BTreeMap<String, Token>) {
        let now = self.clock.unix_seconds();
        tokens.retain(|_, token| token.expires > now);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

    fn tokens(directory: &tempfile::TempDir) -> Tokens {
        let store = Arc::new(Store::open(directory.path()).expect("open"));
        Tokens::load(store, Clock::starting_at(SystemTime::now())).expect("load")
    }

    fn cart() -> Identity {
        Identity::parse(CART).expect("an identity")
    }

    #[tokio::test]
    async fn a_token_serves_one_certificate_and_one_stream() {
        let directory = tempfile::tempdir().expect("a directory");
        let tokens = tokens(&directory);
        let Minted { token, .. } = tokens.mint(&cart()).expect("mint");
        assert_eq!(tokens.redeem(&token, Use::Stream), Ok(cart()));
        assert_eq!(tokens.redeem(&token, Use::Stream), Err(Refused::Used));
        assert_eq!(tokens.redeem(&token, Use::Certificate(b"key")), Ok(cart()));
        assert_eq!(tokens.redeem(&token, Use::Certificate(b"key")), Ok(cart()), "the answer was lost");
        assert_eq!(tokens.redeem(&token, Use::Certificate(b"other")), Err(Refused::Used));
    }

    #[tokio::test]
    async fn wrong_tokens_are_not_known() {
        let directory = tempfile::tempdir().expect("a directory");
        let tokens = tokens(&directory);
        let Minted { token, .. } = tokens.mint(&cart()).expect("mint");
        let changed =
            format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { 'B' } else { 'A' });
        for wrong in
            ["", "ltn_", "ltn__", "x", &changed, &token[4..], &format!("{token}="), &token.to_uppercase()]
        {
            assert_eq!(tokens.redeem(wrong, Use::Stream), Err(Refused::Unknown), "{wrong}");
        }
        tokens.redeem(&token, Use::Stream).expect("the right one still serves");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_expires() {
        let directory = tempfile::tempdir().expect("a directory");
        let tokens = tokens(&directory);
        let Minted { token, .. } = tokens.mint(&cart()).expect("mint");
        tokio::time::advance(LIFETIME + Duration::from_secs(1)).await;
        assert_eq!(tokens.redeem(&token, Use::Stream), Err(Refused::Unknown));
    }

    #[tokio::test]
    async fn a_kill_forgets_neither_tokens_nor_their_use_and_the_state_holds_no_secret() {
        let directory = tempfile::tempdir().expect("a directory");
        let before = tokens(&directory);
        let (used, fresh) = (before.mint(&cart()).expect("mint"), before.mint(&cart()).expect("mint"));
        before.redeem(&used.token, Use::Stream).expect("once");
        drop(before);
        let after = tokens(&directory);
        assert_eq!(after.redeem(&used.token, Use::Stream), Err(Refused::Used));
        assert_eq!(after.redeem(&fresh.token, Use::Stream), Ok(cart()));
        let state = std::fs::read_to_string(directory.path().join(NAME)).expect("state");
        let secret = fresh.token[PREFIX.len()..].split_once('_').expect("parts").1;
        assert!(!state.contains(secret));
    }
}
