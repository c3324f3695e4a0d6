// SPDX-License-Identifier: GPL-3.0-or-later

// Reads a log of ours with the libraries of Go's sumdb/tlog family: policy, cosigned checkpoint,
// every entry by its tiles, and one proof. Prints what it found.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"os"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

func read(path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return data
}

func main() {
	folder, policyPath, note, proof, leaf := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	policy, err := torchwood.ParsePolicy(read(policyPath))
	if err != nil {
		log.Fatal("policy: ", err)
	}
	checkpoint, _, err := torchwood.VerifyCheckpoint(read(note), policy)
	if err != nil {
		log.Fatal("checkpoint: ", err)
	}
	tiles, err := torchwood.NewTileFS(os.DirFS(folder))
	if err != nil {
		log.Fatal(err)
	}
	client, err := torchwood.NewClient(tiles)
	if err != nil {
		log.Fatal(err)
	}
	digest, count := sha256.New(), 0
	for _, entry := range client.AllEntries(context.Background(), checkpoint.Tree, 0) {
		digest.Write(entry)
		count++
	}
	if err := client.Err(); err != nil {
		log.Fatal("entries: ", err)
	}
	if err := torchwood.VerifyProof(policy, tlog.RecordHash(read(leaf)), read(proof)); err != nil {
		log.Fatal("proof: ", err)
	}
	fmt.Printf("%s %d %d %x\n", checkpoint.Origin, checkpoint.N, count, digest.Sum(nil))
}
