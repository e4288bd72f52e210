// Package kernel reads our nftables table, and makes the changes that package
// nft has decided on, over nfnetlink (nf_tables). It decides nothing.
package kernel
