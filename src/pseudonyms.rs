//! The key of pseudonyms, from where secrets are given to programs.

use std::path::Path;

use nekton_engine::{Error, Result};
use nekton_operators::mask::Pseudonyms;

use crate::secret::secret;

/// Pseudonyms under the key in the environment variable `name`, or in the file whose path is in `<name>_FILE`, as orchestrators give
/// secrets to programs. White space around it is left out. The key is never logged and stands in no error.
///
/// # Errors
/// If neither is set, or both, the file cannot be read, or the key has fewer than 16 bytes.
///
/// ```
/// assert!(nekton::pseudonyms("SHOP_SECRET").unwrap_err().to_string().contains("SHOP_SECRET_FILE"));
/// ```
///
/// ```no_run
/// let pseudonyms = nekton::pseudonyms("SHOP_SECRET")?; // SHOP_SECRET_FILE=/run/secrets/shop
/// let card = pseudonyms.of("card", "4111111111111111");
/// # Ok::<(), nekton::Error>(())
/// ```
pub fn pseudonyms(name: &str) -> Result<Pseudonyms> {
    let file = format!("{name}_FILE");
    let path = std::env::var_os(&file);
    match (std::env::var_os(name), &path) {
        (None, None) => {
            return Err(Error::config(format!(
                "there is no key for pseudonyms: give one in {name}, or the path of a file with it in {file}. openssl rand -hex 32 \
                 makes one; keep it as long as what is written under it"
            )));
        }
        (Some(_), Some(_)) => {
            return Err(Error::config(format!("{name} and {file} are both set: keep one of them")));
        }
        _ => {}
    }
    let key = secret(&format!("{file}: reading"), path.as_deref().map(Path::new), name)?.unwrap_or_default();
    Pseudonyms::new(&key).map_err(|error| error.context(name))
}
