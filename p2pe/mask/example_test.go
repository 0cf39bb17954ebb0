package mask_test

import (
	"fmt"
	"log/slog"
	"os"

	"tillbridge/p2pe/mask"
)

func ExamplePAN() {
	fmt.Println(mask.PAN("4111111111111111"))
	fmt.Println(mask.PAN("378282246310005"))
	fmt.Println(mask.PAN("12345"))
	// Output:
	// 411111******1111
	// 378282*****0005
	// ***
}

func ExampleNewHandler() {
	h := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	slog.New(mask.NewHandler(h)).Info("read", "answer", ";4111111111111111=29121010000?")
	// Output: level=INFO msg=read answer="[card number removed]"
}
