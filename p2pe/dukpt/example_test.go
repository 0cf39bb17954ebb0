package dukpt_test

import (
	"errors"
	"fmt"

	"tillbridge/p2pe/dukpt"
)

// The initial key comes from a key block; this one is published for tests.
func ExampleLoad() {
	initial := []byte("\x12\x73\x67\x1E\xA2\x6A\xC2\x9A\xFA\x4D\x10\x84\x12\x76\x52\xA1")
	state, err := dukpt.Load(initial, "123456789012345600000000")
	if err != nil {
		fmt.Println(err)
		return
	}
	t, err := state.Next()
	if errors.Is(err, dukpt.ErrExhausted) {
		fmt.Println("a new initial key is needed")
		return
	}
	key, err := dukpt.Working(t, dukpt.DataEncrypt, dukpt.AES128)
	t.Erase()
	fmt.Println(t.KSN(), key, err)
	key.Erase()
	fmt.Println("left:", state.Remaining(), "of", state.Total())
	// Output:
	// 123456789012345600000001 *** <nil>
	// left: 2448023841 of 2448023842
}
