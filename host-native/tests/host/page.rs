use std::path::Path;

use kubeagents_contract::page_in_browser;

#[test]
fn people_use_the_page_in_a_browser() {
    page_in_browser::play(Path::new(env!("CARGO_BIN_EXE_kubeagents")));
}

#[test]
fn the_modules_of_the_page_are_sound() {
    page_in_browser::check_modules();
}
