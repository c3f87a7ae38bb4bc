//! Keeps generated documents equal to the tables they come from. Only tests use it; must not know what is in them.

/// Compares `docs/NAME` with what it should be; with `UPDATE=1` in the environment, rewrites it instead.
pub fn compare(name: &str, should: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, should).unwrap();
    }
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(is == should, "docs/{name} is out of date: UPDATE=1 cargo test -p lavatube-cli rewrites it");
}
