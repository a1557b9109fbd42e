use std::path::Path;

/// Compares the document that is served with the one that the table of endpoints and the types
/// make; with `UPDATE_OPENAPI` in the environment, writes it.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test writes the document")]
fn the_document_that_is_served_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let document =
        serde_json::to_string_pretty(&kubeagents_core::openapi_document()).unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == document,
        "core/openapi.json is out of date: UPDATE_OPENAPI=1 cargo test -p kubeagents-core openapi"
    );
}
