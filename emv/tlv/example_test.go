package tlv_test

import (
	"encoding/hex"
	"fmt"

	"tillbridge/emv/tlv"
)

// A card answer is shown to a technician: the number stays masked.
func ExampleDescribe() {
	record, _ := hex.DecodeString("70115A0847617390010101195F340101FFFFFF")
	fmt.Print(tlv.Describe(record, nil))
	// Output:
	// 70 READ RECORD Response Template [17]
	//   5A Application PAN [8] 476173******0119
	//   5F34 PAN Sequence Number [1] 01
}

// A card asks for data by a list; it gets them in its order.
func ExampleDOL_Append() {
	pdol, _ := hex.DecodeString("9F02069A039F37049A03")
	list, err := tlv.ParseDOL(pdol)
	if err != nil {
		fmt.Println(err)
		return
	}
	values := map[tlv.Tag][]byte{0x9F02: {0x12, 0x34}, 0x9A: {0x26, 0x11, 0x30}}
	fmt.Printf("%X\n", list.Append(nil, func(t tlv.Tag) ([]byte, bool) { v, ok := values[t]; return v, ok }))
	// Output:
	// 00000000123426113000000000261130
}
