//! The key of pseudonyms, from where secrets are given to programs.

use nekton_engine::{Error, Result};
use nekton_operators::mask::Pseudonyms;

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
    let key = match (std::env::var_os(name), std::env::var_os(&file)) {
        (Some(key), None) => key.into_encoded_bytes(),
        (None, Some(path)) => {
            let path = std::path::PathBuf::from(path);
            std::fs::read(&path)
                .map_err(|error| Error::io(format!("{file}: reading {}", path.display()), &error))?
        }
        (None, None) => {
            return Err(Error::config(format!(
                "there is no key for pseudonyms: give one in {name}, or the path of a file with it in {file}. openssl rand -hex 32 \
                 makes one; keep it as long as what is written under it"
            )));
        }
        (Some(_), Some(_)) => {
            return Err(Error::config(format!("{name} and {file} are both set: keep one of them")));
        }
    };
    Pseudonyms::new(key.trim_ascii()).map_err(|error| error.context(name))
}
