package replay

// end is where a replay of a public recording ends.
type end struct{ outcome, last string }

// expected states for each public recording where it is entered, and outcome
// and last answered command under strict and under loose matching. The
// recordings of emv-utils that stop after one step end there
// ("recording_ended"); where that project's own test says that the card is to
// be refused, so it is here. mock-msc-offline has the outcome that the kernel
// printed for which it was made; the other two mocks end where contact rules
// end.
var expected = map[string]struct {
	entry string
	of    [2]end
}{
	"emv_build_candidate_list_test/test_pse_card_blocked":                    {"selection", [2]end{{"card_unusable", "00A404000E315041592E5359532E444446303100"}, {"card_unusable", "00A404000E315041592E5359532E444446303100"}}},
	"emv_build_candidate_list_test/test_nothing_found":                       {"selection", [2]end{{"card_unusable", "00A4040007A000000004306000"}, {"card_unusable", "00A4040007A000000004306000"}}},
	"emv_build_candidate_list_test/test_aid_blocked":                         {"selection", [2]end{{"card_unusable", "00A4040007A000000004306000"}, {"card_unusable", "00A4040007A000000004306000"}}},
	"emv_build_candidate_list_test/test_pse_app_supported":                   {"selection", [2]end{{"recording_ended", "00B2020C00"}, {"recording_ended", "00B2020C00"}}},
	"emv_build_candidate_list_test/test_aid_multi_exact_match_app_supported": {"selection", [2]end{{"recording_ended", "00A4040007A000000004306000"}, {"recording_ended", "00A4040007A000000004306000"}}},
	"emv_build_candidate_list_test/test_sorted_app_priority":                 {"selection", [2]end{{"recording_ended", "00B2050C00"}, {"recording_ended", "00B2050C00"}}},
	"emv_initiate_application_processing_test/test1_apdu_list":               {"initiate", [2]end{{"recording_ended", "80A8000002830000"}, {"recording_ended", "80A8000002830000"}}},
	"emv_initiate_application_processing_test/test3_apdu_list":               {"initiate", [2]end{{"card_unusable", "80A8000005830360F0C800"}, {"card_unusable", "80A8000005830360F0C800"}}},
	"emv_initiate_application_processing_test/test6_apdu_list":               {"initiate", [2]end{{"card_unusable", "80A8000005830360F0C800"}, {"card_unusable", "80A8000005830360F0C800"}}},
	"emv_read_application_data_test/test3_apdu_list":                         {"records", [2]end{{"card_unusable", "00B2020C00"}, {"card_unusable", "00B2020C00"}}},
	"emv_read_application_data_test/test5_apdu_list":                         {"records", [2]end{{"card_unusable", "00B2020C00"}, {"card_unusable", "00B2020C00"}}},
	"emv_read_application_data_test/test7_apdu_list":                         {"records", [2]end{{"card_unusable", "00B2020C00"}, {"card_unusable", "00B2020C00"}}},
	"emv_read_application_data_test/test9_apdu_list":                         {"records", [2]end{{"card_unusable", "00B2021400"}, {"card_unusable", "00B2021400"}}},
	"emv_read_application_data_test/test11_apdu_list":                        {"records", [2]end{{"recording_ended", "00B2015C00"}, {"recording_ended", "00B2015C00"}}},
	"emv_select_application_test/test_pse":                                   {"selection", [2]end{{"recording_ended", "00B2050C00"}, {"recording_ended", "00B2050C00"}}},
	"emv_select_application_test/test_select_app7":                           {"application selection", [2]end{{"card_unusable", "00C0000061"}, {"card_unusable", "00C0000061"}}},
	"emv_select_application_test/test_select_app3":                           {"application selection", [2]end{{"card_unusable", "00A4040008A00000000310100300"}, {"card_unusable", "00A4040008A00000000310100300"}}},
	"emv_select_application_test/test_select_app2":                           {"application selection", [2]end{{"card_unusable", "00A4040008A00000000310100200"}, {"card_unusable", "00A4040008A00000000310100200"}}},
	"emv_select_application_test/test_select_app_success":                    {"application selection", [2]end{{"recording_ended", "00A4040008A00000000310100300"}, {"recording_ended", "00A4040008A00000000310100300"}}},
	"emv_ttl_pcsc_test/test_pcsc_case_1_normal":                              {"transport", [2]end{{"answered", "12345678"}, {"answered", "12345678"}}},
	"emv_ttl_pcsc_test/test_pcsc_case_2_normal":                              {"records", [2]end{{"recording_ended", "00B2010C00"}, {"recording_ended", "00B2010C00"}}},
	"emv_ttl_pcsc_test/test_pcsc_case_2_error_late":                          {"records", [2]end{{"card_unusable", "00B2010C1C"}, {"card_unusable", "00B2010C1C"}}},
	"emv_ttl_pcsc_test/test_pcsc_case_3_error":                               {"issuer authentication", [2]end{{"answered", "0082000004DEADBEEF"}, {"answered", "0082000004DEADBEEF"}}},
	"emv_ttl_pcsc_test/test_pcsc_case_4_error_early":                         {"selection", [2]end{{"recording_ended", "00A404000E315041592E5359532E444446303100"}, {"recording_ended", "00A404000E315041592E5359532E444446303100"}}},
	"emv_ttl_pcsc_test/test_pcsc_case_2_normal_advanced":                     {"records", [2]end{{"recording_ended", "00B2010C1C"}, {"recording_ended", "00B2010C1C"}}},
	"emv_ttl_pcsc_test/test_pcsc_case_4_warning1":                            {"selection", [2]end{{"recording_ended", "00C0000000"}, {"recording_ended", "00C0000000"}}},
	"emv_ttl_tpdu_test/test_tpdu_case_1_normal":                              {"transport", [2]end{{"answered", "1234567800"}, {"answered", "1234567800"}}},
	"emv_ttl_tpdu_test/test_tpdu_case_2_normal":                              {"records", [2]end{{"recording_ended", "00B2010C00"}, {"recording_ended", "00B2010C00"}}},
	"emv_ttl_tpdu_test/test_tpdu_case_2_error_late":                          {"records", [2]end{{"card_unusable", "00B2010C1C"}, {"card_unusable", "00B2010C1C"}}},
	"emv_ttl_tpdu_test/test_tpdu_case_3_error_early":                         {"issuer authentication", [2]end{{"answered", "0082000004"}, {"answered", "0082000004"}}},
	"emv_ttl_tpdu_test/test_tpdu_case_4_normal":                              {"selection", [2]end{{"recording_ended", "315041592E5359532E4444463031"}, {"recording_ended", "315041592E5359532E4444463031"}}},
	"emv_ttl_tpdu_test/test_tpdu_case_4_error_early2":                        {"selection", [2]end{{"recording_ended", "315041592E5359532E4444463031"}, {"recording_ended", "315041592E5359532E4444463031"}}},
	"emv_ttl_tpdu_test/test_tpdu_case_2_normal_advanced":                     {"records", [2]end{{"recording_ended", "00B2010C1C"}, {"recording_ended", "00B2010C1C"}}},
	"emv_ttl_tpdu_test/test_tpdu_case_4_warning1":                            {"selection", [2]end{{"recording_ended", "00C0000000"}, {"recording_ended", "00C0000000"}}},
	"FailErrorCard":           {"ppse", [2]end{{"card_unusable", "00A4040007A000000003101000"}, {"card_unusable", "00A4040007A000000003101000"}}},
	"GeldKartePpse":           {"ppse", [2]end{{"card_unusable", "00A4040009D2760000254550020000"}, {"card_unusable", "00A4040009D2760000254550020000"}}},
	"LockedCard":              {"ppse", [2]end{{"card_unusable", "00A4040007A000000003101000"}, {"card_unusable", "00A4040007A000000003101000"}}},
	"MasterCardPpse2":         {"ppse", [2]end{{"recording_ended", "00B2010C00"}, {"recording_ended", "00B2010C00"}}},
	"UnknownCard":             {"ppse", [2]end{{"card_unusable", "00A404000E325041592E5359532E444446303100"}, {"card_unusable", "00A404000E325041592E5359532E444446303100"}}},
	"VisaCardNullTransaction": {"ppse", [2]end{{"card_unusable", "80A8000023832100000000000000000000000000000000000000000000000978260101005EED5EED00"}, {"card_unusable", "80A8000023832100000000000000000000000000000000000000000000000978260101005EED5EED00"}}},
	"VisaCardPpse2":           {"ppse", [2]end{{"card_unusable", "00B2010C00"}, {"card_unusable", "00B2010C00"}}},
	"VisaCardPpseNoCplc":      {"ppse", [2]end{{"card_unusable", "80A8000023832100000000000000000000000000000000000000000000000978260101005EED5EED00"}, {"card_unusable", "80A8000023832100000000000000000000000000000000000000000000000978260101005EED5EED00"}}},
	"VisaCardPse":             {"selection", [2]end{{"recording_ended", "00A404000E315041592E5359532E444446303100"}, {"recording_ended", "00B2020C00"}}},
	"wrapperTestSW_6C":        {"application selection", [2]end{{"card_unusable", "00A4040005A00000000301"}, {"card_unusable", "00A4040005A00000000301"}}},
	"mock-msc-ms-mode":        {"ppse", [2]end{{"card_unusable", "00B2010C00"}, {"card_unusable", "00B2010C00"}}},
	"mock-msc-offline":        {"ppse", [2]end{{"approved", "80AE5000420000000000010000000000000056000000000109781908190033BCA47D26000000000000000000001F0302000000000000000000000000000000000000000000000000"}, {"approved", "80AE5000420000000000010000000000000056000000000109781908190033BCA47D26000000000000000000001F0302000000000000000000000000000000000000000000000000"}}},
	"mock-visa-offline":       {"ppse", [2]end{{"card_unusable", "00B2031400"}, {"card_unusable", "00B2031400"}}},
}
