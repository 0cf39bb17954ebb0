package abecs

import (
	"errors"
)

// choose builds the candidate list and reads the application; a menu asks the
// customer where the card leaves a choice.
func (s *session) choose(k *kernel, l params) (int, error) {
	apps := filter(s.pad.applications(), l, k.contactless)
	list, err := k.find(apps)
	if err != nil {
		return status(err, k.contactless), nil
	}
	for len(list) > 0 {
		i := 0
		if len(list) > 1 && !k.contactless {
			step, err := s.ask(needMenu, l.limit(pinpadTimeout))
			switch {
			case err != nil:
				return 0, err
			case step.Do == "timeout":
				return statTimeout, nil
			case step.Do == "cancel":
				return statCancel, nil
			}
			if step.N >= 1 && step.N <= len(list) {
				i = step.N - 1
			}
		}
		err := k.start(list[i])
		if err == nil {
			return statOK, nil
		}
		var sw statusError
		if !errors.As(err, &sw) || len(list) == 1 {
			return status(err, k.contactless), nil
		}
		list = append(list[:i:i], list[i+1:]...) // 6985 and the like: back to selection
	}
	return statNoApp, nil
}

// filter leaves the applications that the host asks for.
func filter(apps []*application, l params, contactless bool) []*application {
	acquirer := l.text(inAcquirer, 2, "00")
	ids, listed := l.get(inAIDList)
	kinds, typed := l.get(inAppType)
	var out []*application
	for _, a := range apps {
		if acquirer != "00" && a.acquirer != acquirer || contactless && a.ctlsMode == 0 {
			continue
		}
		if listed && !pairs(ids, 4, a.acquirer+a.record) {
			continue
		}
		if typed && !pairs(kinds, 2, twoDigits(a.kind)) {
			continue
		}
		out = append(out, a)
	}
	return out
}

func pairs(list []byte, n int, want string) bool {
	for ; len(list) >= n; list = list[n:] {
		if string(list[:n]) == want {
			return true
		}
	}
	return false
}
