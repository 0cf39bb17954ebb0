package ccid_test

import (
	"fmt"

	"tillbridge/drivers/ccid"
)

func ExampleParseMessage() {
	m, err := ccid.ParseMessage([]byte{0x80, 2, 0, 0, 0, 0, 5, 0, 0, 0, 0x6A, 0x82})
	fmt.Println(m, err)
	// Output: DataBlock slot=0 seq=5, card powered, 2 bytes <nil>
}
