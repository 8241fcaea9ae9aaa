use std::fmt::Debug;
use std::time::Duration;

use crate::domain::Version;

/// Why an object cannot be had, sent or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// No store is told, or this program knows none.
    #[error("object store `{url}`: {why}")]
    Unusable {
        /// Its address.
        url: String,
        /// Why.
        why: String,
    },
    /// The store did not do it; trying again may help.
    #[error("object {name}: {why}")]
    Failed {
        /// The object's name below the prefix.
        name: String,
        /// Why.
        why: String,
    },
    /// It is longer than it may be; it was not read.
    #[error("object {name} has {found} bytes; its manifest says {expected}")]
    TooLong {
        /// The object's name below the prefix.
        name: String,
        /// Its length.
        found: u64,
        /// What the manifest says.
        expected: u64,
    },
}

/// Where artifacts lie that are too large for the topic: below one prefix of an object store, each under a name that its version alone makes. No
/// record of the topic can point anywhere else.
#[derive(Clone, Default)]
pub struct Objects {
    url: String,
    #[cfg_attr(not(feature = "claim-check"), expect(dead_code, reason = "read by programs that know a store"))]
    options: Vec<(String, String)>,
}

/// Without the options: keys are among them.
impl Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Objects {
    /// Below a prefix like `s3://bucket/snapshots` or `file:///srv/snapshots`; an empty one stands for none. Of the variables of the
    /// environment those that begin with `AWS_` count, as they do for Amazon's own tools.
    ///
    /// # Errors
    /// [`ObjectError::Unusable`]: no such kind of store, or this program is built without the feature `claim-check`.
    pub fn open(url: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ObjectError> {
        let options = environment.into_iter().filter(|(name, _)| name.starts_with("AWS_")).collect();
        let objects = Objects { url: url.to_owned(), options };
        if objects.is_some() {
            backend::check(&objects)?;
        }
        Ok(objects)
    }

    /// Whether there is a store.
    #[must_use]
    pub fn is_some(&self) -> bool {
        !self.url.is_empty()
    }

    /// The bytes of a version's artifact or delta, no more than `bytes`.
    pub(crate) fn get(&self, version: Version, what: &str, bytes: u64, timeout: Duration) -> Result<Vec<u8>, ObjectError> {
        self.told()?;
        backend::get(self, name(version, what), bytes, timeout)
    }

    /// Stores the bytes of a version's artifact or delta, over what there was.
    #[cfg(feature = "trainer")]
    pub(crate) fn put(&self, version: Version, what: &str, bytes: Vec<u8>, timeout: Duration) -> Result<(), ObjectError> {
        self.told()?;
        backend::put(self, name(version, what), bytes, timeout)
    }

    /// Removes a version's artifact or delta.
    #[cfg(feature = "trainer")]
    pub(crate) fn remove(&self, version: Version, what: &str, timeout: Duration) -> Result<(), ObjectError> {
        self.told()?;
        backend::remove(self, name(version, what), timeout)
    }

    fn told(&self) -> Result<(), ObjectError> {
        if self.is_some() {
            return Ok(());
        }
        let why = "a snapshot lies in an object store, and none is set: publish.claim_check, or a server's --claim-check".to_owned();
        Err(ObjectError::Unusable { url: String::new(), why })
    }
}

fn name(version: Version, what: &str) -> String {
    format!("{:020}.{what}", version.0)
}

/// Each call has a client and a runtime of its own: there is one call a minute, from threads that know no runtime.
#[cfg(feature = "claim-check")]
mod backend {
    use std::time::Duration;

    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt, PutPayload, parse_url_opts};
    use url::Url;

    use super::{ObjectError, Objects};

    type Client = (Box<dyn ObjectStore>, Path);

    pub(super) fn check(objects: &Objects) -> Result<(), ObjectError> {
        client(objects).map(drop)
    }

    pub(super) fn get(objects: &Objects, name: String, bytes: u64, timeout: Duration) -> Result<Vec<u8>, ObjectError> {
        let (store, prefix) = client(objects)?;
        wait(&name, timeout, async {
            let found = store.get(&prefix.clone().join(name.as_str())).await.map_err(|error| failed(&name, &error))?;
            if found.meta.size > bytes {
                return Err(ObjectError::TooLong { name: name.clone(), found: found.meta.size, expected: bytes });
            }
            found.bytes().await.map(Vec::from).map_err(|error| failed(&name, &error))
        })
    }

    #[cfg(feature = "trainer")]
    pub(super) fn put(objects: &Objects, name: String, bytes: Vec<u8>, timeout: Duration) -> Result<(), ObjectError> {
        let (store, prefix) = client(objects)?;
        wait(&name, timeout, async {
            let put = store.put(&prefix.clone().join(name.as_str()), PutPayload::from(bytes)).await;
            put.map(drop).map_err(|error| failed(&name, &error))
        })
    }

    #[cfg(feature = "trainer")]
    pub(super) fn remove(objects: &Objects, name: String, timeout: Duration) -> Result<(), ObjectError> {
        let (store, prefix) = client(objects)?;
        wait(&name, timeout, async {
            match store.delete(&prefix.clone().join(name.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed(&name, &error)),
            }
        })
    }

    fn client(objects: &Objects) -> Result<Client, ObjectError> {
        let unusable = |why: String| ObjectError::Unusable { url: objects.url.clone(), why };
        let url = Url::parse(&objects.url).map_err(|error| unusable(error.to_string()))?;
        if !["file", "s3"].contains(&url.scheme()) {
            return Err(unusable("write it like s3://bucket/prefix or file:///directory".to_owned()));
        }
        parse_url_opts(&url, objects.options.iter().cloned()).map_err(|error| unusable(error.to_string()))
    }

    fn wait<T>(name: &str, timeout: Duration, work: impl Future<Output = Result<T, ObjectError>>) -> Result<T, ObjectError> {
        let failed = |why: String| ObjectError::Failed { name: name.to_owned(), why };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.to_string()))?;
        let done = runtime.block_on(async { tokio::time::timeout(timeout, work).await });
        done.map_err(|_| failed(format!("no answer within {timeout:?}")))?
    }

    fn failed(name: &str, error: &object_store::Error) -> ObjectError {
        ObjectError::Failed { name: name.to_owned(), why: error.to_string() }
    }
}

/// The same, of a program that knows no store.
#[cfg(not(feature = "claim-check"))]
mod backend {
    use std::time::Duration;

    use super::{ObjectError, Objects};

    pub(super) fn check(objects: &Objects) -> Result<(), ObjectError> {
        let why = "this program is built without the feature claim-check".to_owned();
        Err(ObjectError::Unusable { url: objects.url.clone(), why })
    }

    pub(super) fn get(objects: &Objects, _name: String, _bytes: u64, _timeout: Duration) -> Result<Vec<u8>, ObjectError> {
        check(objects).map(|()| Vec::new())
    }

    #[cfg(feature = "trainer")]
    pub(super) fn put(objects: &Objects, _name: String, _bytes: Vec<u8>, _timeout: Duration) -> Result<(), ObjectError> {
        check(objects)
    }

    #[cfg(feature = "trainer")]
    pub(super) fn remove(objects: &Objects, _name: String, _timeout: Duration) -> Result<(), ObjectError> {
        check(objects)
    }
}
