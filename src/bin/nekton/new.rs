//! `nekton new`: a small program to start from.

use std::path::{Path, PathBuf};

use clap::Args;
use nekton::{Error, Kind, Result, say};

/// The files of a new program. `{{name}}` is its name, `{{crate}}` the same as Rust writes it, `{{nekton}}` where nekton
/// comes from.
const FILES: [(&str, &str); 8] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("README.md", include_str!("template/README.md")),
    (".gitignore", include_str!("template/gitignore.txt")),
    ("src/main.rs", include_str!("template/main.rs")),
    ("tests/hot_rooms.rs", include_str!("template/hot_rooms.rs")),
    ("data/topics/readings/0.jsonl", include_str!("template/readings.jsonl")),
    // The build of nekton's Pulsar connector needs the protobuf compiler, which these two find.
    (".cargo/config.toml", include_str!("../../../.cargo/config.toml")),
    (PROTOC, include_str!("../../../tools/protoc")),
];
const PROTOC: &str = "tools/protoc";

/// Names that Rust or cargo want for something else.
const TAKEN: [&str; 12] = [
    "test",
    "core",
    "std",
    "alloc",
    "proc_macro",
    "nekton",
    "serde",
    "self",
    "super",
    "crate",
    "main",
    "build",
];

#[derive(Args)]
pub(crate) struct Command {
    /// The folder to write it to; its last part is the program's name
    name: PathBuf,
    /// A checkout of nekton to depend on [default: the one this command was built from, if it is still there; else the
    /// published version]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let folder = &command.name;
    let name = package_name(folder)?;
    if folder.exists() {
        return Err(Error::new(
            Kind::Conflict,
            format!("{} is there already: choose another name, or delete it", folder.display()),
        ));
    }
    let nekton = dependency(command.path.as_deref())?;
    let within = if is_in_package(folder) {
        "\n# It is not a member of the workspace around it.\n[workspace]\n"
    } else {
        ""
    };
    for (path, template) in FILES {
        let text = template
            .replace("{{name}}", &name)
            .replace("{{crate}}", &name.replace('-', "_"))
            .replace("{{nekton}}", &nekton)
            .replace("{{workspace}}\n", within);
        write(&folder.join(path), &text, path == PROTOC)?;
    }
    println!(
        "Wrote the program {name} to {}. Try it:\n\n  cd {0}\n  cargo run -- --topics file:data/topics --until-end\n  cat \
         data/topics/hot-by-room/0.jsonl\n  cargo test",
        folder.display()
    );
    Ok(())
}

fn package_name(folder: &Path) -> Result<String> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !letters || !begins || TAKEN.contains(&name.replace('-', "_").as_str()) {
        return Err(Error::config(format!(
            "{name:?} cannot be a program's name: it begins with a letter, has letters, digits, - and _ (ASCII), and is \
             no word that Rust or cargo need"
        )));
    }
    Ok(name)
}

/// What stands behind `nekton = ` in Cargo.toml.
fn dependency(path: Option<&Path>) -> Result<String> {
    let is_nekton = |folder: &Path| folder.join("engine/Cargo.toml").is_file();
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = match path {
        Some(path) if !is_nekton(path) => {
            return Err(Error::new(
                Kind::Missing,
                format!("{} is no checkout of nekton: it has no engine/Cargo.toml", path.display()),
            ));
        }
        Some(path) => path,
        None if is_nekton(built_from) => built_from,
        None => return Ok(format!("{:?}", env!("CARGO_PKG_VERSION"))),
    };
    let folder = folder
        .canonicalize()
        .map_err(|error| Error::io(format!("the folder {}", folder.display()), &error))?;
    // JSON's texts are TOML's as well.
    Ok(format!("{{ path = {} }}", serde_json::Value::from(folder.to_string_lossy())))
}

/// Whether cargo would take a package in this folder for a part of another one.
fn is_in_package(folder: &Path) -> bool {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    folder.ancestors().skip(1).any(|above| above.join("Cargo.toml").is_file())
}

fn write(path: &Path, text: &str, executable: bool) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(format!("writing {}", path.display()), &error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)?;
    #[cfg(unix)]
    if executable {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cargo_would_refuse_is_refused_before_anything_is_written() {
        for good in ["house", "a/b/my-house", "House_2"] {
            assert_eq!(package_name(Path::new(good)).unwrap(), good.rsplit('/').next().unwrap());
        }
        for bad in ["", "..", "2house", "my house", "häuser", "test", "nekton", "a.b", "-x"] {
            assert!(
                package_name(Path::new(bad)).unwrap_err().to_string().contains("program's name"),
                "{bad}"
            );
        }
    }

    #[test]
    fn it_depends_on_the_checkout_it_was_built_from_or_on_the_named_one() {
        assert!(dependency(None).unwrap().starts_with("{ path = \"/"));
        assert!(dependency(Some(Path::new("/"))).unwrap_err().to_string().contains("no checkout of nekton"));
    }
}
