package port

import (
	"context"
	"io"
)

// Play runs a device on a line: read takes from the line in a goroutine of its
// own, serve gets what it took and writes. Play returns what serve returns,
// with the line closed and the goroutine gone. The channel is closed when the
// line ends; the end of ctx closes the line.
func Play[T any](ctx context.Context, line io.Closer, read func() ([]T, error), serve func(ctx context.Context, in <-chan T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	in := make(chan T)
	go func() {
		defer close(in)
		for {
			got, err := read()
			for _, x := range got {
				select {
				case in <- x:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	stop := context.AfterFunc(ctx, func() { line.Close() })
	err := serve(ctx, in)
	cancel()
	stop()
	line.Close()
	for range in { // the reader may hold something; its end closes the channel
	}
	return err
}

// Pieces reads a line as it comes, for Play.
func Pieces(line io.Reader) func() ([][]byte, error) {
	return func() ([][]byte, error) {
		b := make([]byte, 4096)
		n, err := line.Read(b)
		if n == 0 {
			return nil, err
		}
		return [][]byte{b[:n]}, err
	}
}
