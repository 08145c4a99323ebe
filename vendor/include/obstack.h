/* musl has no obstack. elfutils' lib/ headers mention the type; libelf itself uses nothing from it. */
struct obstack { int unused; };
