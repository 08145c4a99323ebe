//! The function that programs may attach to in order to run once.

/// The instruction that returns.
#[cfg(target_arch = "arm")]
macro_rules! back {
    () => {
        "bx lr"
    };
}
#[cfg(not(target_arch = "arm"))]
macro_rules! back {
    () => {
        "ret"
    };
}

std::arch::global_asm!(
    ".p2align 2",
    ".globl post_attach_mark",
    ".type post_attach_mark, %function",
    "post_attach_mark:",
    back!(),
    ".size post_attach_mark, . - post_attach_mark",
);

/// Calls the function `post_attach_mark`, which does nothing: programs may attach a uprobe to it to be run once when all are
/// attached. It is in assembly, so that nothing inlines it, and its name is kept in the stripped binary (`build.rs`).
pub fn post_attach_mark() {
    unsafe extern "C" {
        fn post_attach_mark();
    }
    // SAFETY: it returns at once and touches no register that a function may not touch.
    unsafe { post_attach_mark() };
}
