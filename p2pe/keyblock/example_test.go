package keyblock_test

import (
	"errors"
	"fmt"

	"tillbridge/p2pe/keyblock"
)

func ExampleOpen() {
	block := "B0104B0TX12S0100KS1800604B120F9292800000BB68BE8680A400D9191AD4ECE45B6E6C0D21C4738A52190E248719E24B433627"
	kbpk := []byte("\x1D\x22\xBF\x32\x38\x7C\x60\x0A\xD9\x7F\x9B\x97\xA5\x13\x11\xAC") // published for tests
	_, err := keyblock.Open(block, kbpk, &keyblock.InitialKey)
	fmt.Println(errors.Is(err, keyblock.ErrUsage)) // a base key: no business of this machine

	kcv, err := keyblock.KCV(kbpk)
	fmt.Printf("%X %v\n", kcv, err)
	// Output:
	// true
	// 11B651 <nil>
}
