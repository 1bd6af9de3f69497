"""What is done with trained models after, or without, a sweep: train one setting, attack again, audit, test.

Every command that reads the test split opens it through ``test_split``, which records each opening. The modules import
torch inside functions only, so that a wrong argument fails at once.
"""
