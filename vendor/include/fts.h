/* musl has no fts(3). elfutils' configure asks for the header; libelf itself uses nothing from it. */
