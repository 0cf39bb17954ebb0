package agent

// syncDir does nothing: NTFS journals the rename.
func syncDir(string) error { return nil }
