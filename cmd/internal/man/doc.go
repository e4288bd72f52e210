// Package man writes manual pages in the man(7) language, from the texts of the help:
// plain ones of commands, and Markdown of topics. It does no I/O.
package man
